"""Stop requests by signals: they arrive at once, and never wait for a lock."""

import signal
import subprocess
import sys
import threading

import pytest

from fer_bench.device.signals import PARENT_ENDED, Stop, stop_on_signals

# Each line of the handler, and of what it calls, is interrupted by another signal.
INTERRUPTED = """
import signal, sys
from fer_bench.device.signals import PARENT_ENDED, stop_on_signals

left = list(range(20))

def interrupt(frame, event, argument):
    if left:
        left.pop()
        signal.raise_signal(PARENT_ENDED)
    return interrupt

with stop_on_signals() as stop:
    sys.settrace(interrupt)
    signal.raise_signal(PARENT_ENDED)
    sys.settrace(None)
    print(stop.is_set(), len(left) < 20)
"""


def test_a_signal_during_the_handler_of_another_does_not_wait() -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED],
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    assert done.stdout == "True True\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_requests_a_stop_and_the_second_kills(number: signal.Signals) -> None:
    own = signal.default_int_handler
    before = signal.signal(number, own)  # SIGHUP is ignored where `nohup` started the tests
    try:
        with stop_on_signals() as stop:
            assert not stop.is_set()
            signal.raise_signal(number)
            assert stop.is_set()
            assert signal.getsignal(number) == signal.SIG_DFL
        assert signal.getsignal(number) == own
    finally:
        signal.signal(number, before)


def test_a_hang_up_stays_ignored_under_nohup() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.is_set()
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_end_of_the_parent_requests_a_stop_however_often_it_comes() -> None:
    with stop_on_signals() as stop:
        for _ in range(3):
            signal.raise_signal(PARENT_ENDED)
        assert stop.is_set()
    assert signal.getsignal(PARENT_ENDED) == signal.SIG_DFL


def test_in_another_thread_no_stop_is_requested() -> None:
    found: list[Stop] = []

    def work() -> None:
        with stop_on_signals() as stop:
            found.append(stop)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not found[0].is_set()
    assert signal.getsignal(signal.SIGTERM) == before
