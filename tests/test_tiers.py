"""The tiers of the tests: what is fast stays fast, and its collection does not load TensorFlow."""

from pathlib import Path

import pytest
import test_architecture as architecture
import tiers

TESTS = Path(__file__).resolve().parent
MODULES = architecture.modules()

# Tests of what computes. All others are collected without TensorFlow, in a fraction of the time.
MAY_LOAD_TENSORFLOW = (
    *("models", "training", "evaluation", "device"),
    *("data/test_augmentation.py", "data/test_pipeline.py"),
    *("report/figures/test_explanations.py", "report/figures/test_freezing.py"),
    "rounding.py",
)


def heavy_imports(path: Path) -> list[str]:
    """What a test file imports that loads TensorFlow, directly or through another file."""
    return [name for name in tiers.imports_when_collected(path) if is_heavy(name)]


def is_heavy(name: str) -> bool:
    root = name.partition(".")[0]
    if root == "fer_bench":
        return architecture.owner(name, MODULES) in architecture.COMPUTES
    shared = TESTS / f"{root}.py"
    return root in architecture.HEAVY or (shared.exists() and bool(heavy_imports(shared)))


def test_collecting_light_test_files_does_not_load_tensorflow() -> None:
    heavy = {}
    for path in sorted(TESTS.rglob("*.py")):
        relative = path.relative_to(TESTS)
        if not any(relative.is_relative_to(allowed) for allowed in MAY_LOAD_TENSORFLOW):
            heavy[str(relative)] = heavy_imports(path)
    assert {path: names for path, names in heavy.items() if names} == {}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import keras", ["keras"]),
        ("from fer_bench.models.build import build_model", ["fer_bench.models.build.build_model"]),
        ("from fer_bench.models import build", ["fer_bench.models.build"]),
        ("from rounding import rounding", ["rounding.rounding"]),
        ("from fer_bench.labels import EXPRESSIONS", []),
        ("def test() -> None:\n    import keras", []),
        ("if TYPE_CHECKING:\n    import keras", []),
    ],
)
def test_heavy_imports_are_found(source: str, found: list[str], tmp_path: Path) -> None:
    path = tmp_path / "test_it.py"
    path.write_text(source)
    assert heavy_imports(path) == found


def call_of(seconds: float, when: str = "call") -> pytest.CallInfo[None]:
    return pytest.CallInfo(None, None, 0.0, seconds, seconds, when, _ispytest=True)  # type: ignore[arg-type]


def test_a_fast_test_has_a_budget(request: pytest.FixtureRequest) -> None:
    item = request.node
    message = tiers.over_budget(item, call_of(3.2), 3)
    assert message
    assert "3.2 s" in message
    assert "FER_BENCH_TEST_BUDGET=3" in message
    assert "slow" in message
    assert tiers.over_budget(item, call_of(2.9), 3) is None
    assert tiers.over_budget(item, call_of(3.2, "setup"), 3) is None
    assert tiers.over_budget(item, call_of(1e9), float("inf")) is None


@pytest.mark.budget(10)
def test_a_marker_raises_the_budget_of_one_test(request: pytest.FixtureRequest) -> None:
    assert tiers.over_budget(request.node, call_of(9), 3) is None
    assert tiers.over_budget(request.node, call_of(11), 3)


@pytest.mark.slow
def test_a_slow_test_has_no_budget(request: pytest.FixtureRequest) -> None:
    assert tiers.over_budget(request.node, call_of(3.2), 3) is None


def test_users_of_an_expensive_fixture_share_a_process(pytester: pytest.Pytester) -> None:
    path = pytester.makepyfile(
        "import pytest\n"
        "@pytest.fixture(params=['small', 'large'])\n"
        "def subject(request): return request.param\n"
        "def test_one(subject): ...\n"
        "def test_other(subject): ...\n"
        "def test_apart(): ...\n"
    )
    groups = {item.name: tiers.group(item) for item in pytester.getitems(path.read_text())}
    assert groups == {
        **{f"test_{name}[small]": "subject small" for name in ("one", "other")},
        **{f"test_{name}[large]": "subject large" for name in ("one", "other")},
        "test_apart": None,
    }


def test_the_id_of_a_test_shows_its_group(pytester: pytest.Pytester) -> None:
    items = pytester.getitems(
        "import pytest\n"
        "@pytest.mark.xdist_group('own')\n"
        "@pytest.mark.parametrize('which', ['a@b'])\n"
        "def test_one(which): ...\n"
        "def test_apart(): ...\n"
    )
    tiers.show_groups(items)
    tiers.show_groups(items)
    ids = [item.nodeid.partition("::")[2] for item in items]
    assert ids == ["test_one[a@b]@own", "test_apart"]


def test_some_values_of_a_parameter_are_fast(pytester: pytest.Pytester) -> None:
    items = pytester.getitems(
        "import pytest\n"
        "import tiers\n"
        "@pytest.mark.parametrize('which', tiers.some_fast(['a', 'b', 'c'], 'b'))\n"
        "def test_one(which): ...\n"
    )
    assert {item.name: tiers.is_fast(item) for item in items} == {
        "test_one[a]": False,
        "test_one[b]": True,
        "test_one[c]": False,
    }
    with pytest.raises(AssertionError, match="d"):
        tiers.some_fast(["a", "b"], "d")
