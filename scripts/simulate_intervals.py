"""How often the 95% intervals contain the truth, and how often the tests raise a false alarm.

Test sets are drawn from models whose true metrics have a closed form, and passed to the functions
that compute all intervals and tests of a report.
"""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measuring import parser_of, table
from numpy.typing import NDArray

from fer_bench.metrics import document, measure
from fer_bench.metrics.intervals import percentile_interval, wilson
from fer_bench.metrics.predictions import Expression, Predictions, ValenceArousal
from fer_bench.metrics.significance import exact_mcnemar, paired_bootstrap, seeds_difference

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

CLASSES = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger")
# Class shares of a small evaluation set (306 images), and of FER2013 with its rare disgust.
EVEN = np.array([49, 39, 34, 43, 51, 35, 55]) / 306
RARE = np.array([0.174, 0.245, 0.165, 0.116, 0.147, 0.015, 0.138])
# A model of about 64% accuracy: the recall of each class; errors are spread unevenly.
RECALL = np.array([0.65, 0.85, 0.55, 0.78, 0.45, 0.5, 0.6])
# Valence: normal around a mean per class; predicted as BIAS + SLOPE × true + noise.
VALENCE = np.array([0, 0.6, -0.6, 0.2, -0.5, -0.6, -0.5])
SPREAD, BIAS, SLOPE, NOISE = 0.25, 0.05, 0.7, 0.25
# How much the seeds of one experiment differ: the standard deviation of the share of images that
# are classified correctly, or at random, in addition.
LITTLE, MUCH = 0.02, 0.15
# Accuracy needs no resamples, so that many more test sets are affordable.
ACCURACY_FACTOR = 50
BOOTSTRAPPED = ("macro_f1", "valence_ccc")


def confusion() -> FloatArray:
    """The probability of each predicted class (columns) per true class (rows)."""
    off = np.random.default_rng(1).dirichlet(np.full(7, 2.0), size=7) * (1 - np.eye(7))
    spread = off / off.sum(axis=1, keepdims=True) * (1 - RECALL)[:, None]
    matrix: FloatArray = spread + np.diag(RECALL)
    return matrix


CONFUSION = confusion()


def class_sizes(shares: FloatArray, n: int) -> IntArray:
    """The number of images per class, as close to its share as whole numbers allow."""
    ends = np.round(np.cumsum(shares) / shares.sum() * n).astype(np.int64)
    sizes: IntArray = np.diff(ends, prepend=0)
    return sizes


def truth(shares: FloatArray) -> dict[str, float]:
    """The metrics of the model on the whole population of images with these class shares."""
    shares = shares / shares.sum()
    mean = shares @ VALENCE
    variance = SPREAD**2 + shares @ (VALENCE - mean) ** 2
    predicted = SLOPE**2 * variance + NOISE**2
    distance = mean - (BIAS + SLOPE * mean)
    return {
        "accuracy": float(shares @ RECALL),
        "macro_f1": float(np.mean(2 * shares * RECALL / (shares + shares @ CONFUSION))),
        "valence_ccc": float(2 * SLOPE * variance / (variance + predicted + distance**2)),
    }


def predict(labels: IntArray, random: np.random.Generator, matrix: FloatArray) -> IntArray:
    """A random prediction per label, from its row of `matrix`."""
    above = np.cumsum(matrix, axis=1)[labels, :-1] < random.random((len(labels), 1))
    codes: IntArray = above.sum(axis=1)
    return codes


def predictions_of(labels: IntArray, predicted: IntArray, valence: Any = None) -> Predictions:
    """Predictions with probability 1, with true and predicted valence if given, each (n,)."""
    pairs = None
    if valence is not None:
        pairs = ValenceArousal(*(np.stack([part, part], axis=1) for part in valence))
    return Predictions(
        sample_ids=tuple(map(str, range(len(labels)))),
        label_names=np.array(CLASSES)[labels],
        expression=Expression(CLASSES, labels, predicted, np.eye(7)[predicted]),
        valence_arousal=pairs,
    )


@dataclass(frozen=True)
class Settings:
    """The size of the simulation, and its seed.

    Attributes:
        seed: the seed.
        coverage: number of test sets to check intervals on.
        tests: number of pairs of models to test.
        resamples: resamples per bootstrap.
    """

    seed: int
    coverage: int
    tests: int
    resamples: int


def batches(replications: int, size: int = 50) -> Iterator[range]:
    """The replications in batches.

    Test sets of one batch have the same class sizes and share their resamples, which do not depend
    on the predictions: this saves most of the time without bias.
    """
    for start in range(0, replications, size):
        yield range(start, min(start + size, replications))


# Coverage --------------------------------------------------------------------------------------


def coverage(
    shares: FloatArray, n: int, settings: Settings, *, fixed: bool
) -> dict[str, tuple[int, int]]:
    """By metric, the number of bootstrap intervals above the truth, and below it."""
    random = np.random.default_rng([settings.seed, n, int(fixed)])
    sizes = class_sizes(shares, n)
    true = truth(sizes / n if fixed else shares)
    bounds: list[dict[str, tuple[float, float]]] = []
    for batch in batches(settings.coverage, 50 if fixed else 1):
        counts = sizes if fixed else random.multinomial(n, shares / shares.sum())
        labels = np.repeat(np.arange(7), counts)
        runs = [draw_run(labels, random) for _ in batch]
        for draws in measure.resampled(runs, BOOTSTRAPPED, batch.start, settings.resamples):
            bounds.append({name: percentile_interval(drawn) for name, drawn in draws.items()})
    return {
        name: (
            sum(true[name] < one[name][0] for one in bounds),
            sum(true[name] > one[name][1] for one in bounds),
        )
        for name in BOOTSTRAPPED
    }


def accuracy_coverage(
    shares: FloatArray, n: int, settings: Settings, *, fixed: bool
) -> tuple[int, int]:
    """The same for the Wilson interval of accuracy."""
    random = np.random.default_rng([settings.seed, n, int(fixed), 1])
    sizes = class_sizes(shares, n)
    true = truth(sizes / n if fixed else shares)["accuracy"]
    total = settings.coverage * ACCURACY_FACTOR
    if fixed:
        correct = random.binomial(sizes, RECALL, (total, 7)).sum(axis=1)
    else:
        correct = random.binomial(n, true, total)
    bounds = np.array([wilson(count, n) for count in range(n + 1)])[correct]
    return int(np.sum(true < bounds[:, 0])), int(np.sum(true > bounds[:, 1]))


def draw_run(labels: IntArray, random: np.random.Generator) -> Predictions:
    """The predictions of the model for new images with these labels, (n,)."""
    noise = random.normal(size=(2, len(labels)))
    valence = VALENCE[labels] + SPREAD * noise[0]
    guess = BIAS + SLOPE * valence + NOISE * noise[1]
    return predictions_of(labels, predict(labels, random, CONFUSION), (valence, guess))


COVERAGE = [
    ("fixed, even", EVEN, 300, True),
    ("fixed, one class rare", RARE, 3000, True),
    ("fixed, one class of 5 images", RARE, 300, True),
    ("random, even", EVEN, 300, False),
]


def coverage_rows(settings: Settings) -> Iterator[list[str]]:
    """The rows of the first table, one per metric and kind of test set."""
    for sizes, shares, n, fixed in COVERAGE:
        missed = {"accuracy": accuracy_coverage(shares, n, settings, fixed=fixed)}
        missed |= coverage(shares, n, settings, fixed=fixed)
        for name, (above, below) in missed.items():
            total = settings.coverage * (ACCURACY_FACTOR if name == "accuracy" else 1)
            held = total - above - below
            low, high = wilson(held, total)
            yield [
                *(name, document.interval_method(name), f"{n:,}", sizes, f"{total:,}"),
                *(f"{held / total:.1%}", f"{low:.1%} to {high:.1%}"),
                *(f"{above / total:.1%}", f"{below / total:.1%}"),
            ]


# False alarms ----------------------------------------------------------------------------------


def two_models(labels: IntArray, random: np.random.Generator) -> list[Predictions]:
    """Two equally good models that agree on half of the images and are independent on the rest."""
    first, other = (predict(labels, random, CONFUSION) for _ in range(2))
    second = np.where(random.random(len(labels)) < 0.5, first, other)
    return [predictions_of(labels, predicted) for predicted in (first, second)]


def pair_alarms(n: int, settings: Settings) -> dict[str, int]:
    """By test, how often it finds a difference between equally good models."""
    random = np.random.default_rng([settings.seed, n, 2])
    labels = np.repeat(np.arange(7), class_sizes(RARE if n > 1000 else EVEN, n))
    accuracy, macro_f1 = [], []
    for batch in batches(settings.tests):
        pairs = [two_models(labels, random) for _ in batch]
        for first, second in pairs:
            correct = [run.expression.correct for run in (first, second) if run.expression]
            only = [np.sum(own & ~other) for own, other in (correct, correct[::-1])]
            accuracy.append(float(exact_mcnemar(*only)))
        runs = [run for pair in pairs for run in pair]
        found = measure.resampled(runs, ("macro_f1",), batch.start, settings.resamples)
        draws = np.stack([drawn["macro_f1"] for drawn in found]).reshape(len(pairs), 2, -1)
        macro_f1 += [paired_bootstrap(first, second)[2] for first, second in draws]
    return {
        "exact McNemar, accuracy": int(np.sum(np.array(accuracy) < 0.05)),
        "paired bootstrap, macro F1": int(np.sum(np.array(macro_f1) < 0.05)),
    }


def seed_alarms(seeds: int, spread: float, n: int, settings: Settings) -> int:
    """How often the hierarchical bootstrap finds a difference between equal experiments."""
    random = np.random.default_rng([settings.seed, n, seeds, 3])
    labels = np.repeat(np.arange(7), class_sizes(EVEN, n))
    alarms = 0
    for batch in batches(settings.tests):
        runs = [trained(labels, spread, random) for _ in range(2 * seeds * len(batch))]
        found = measure.resampled(runs, ("macro_f1",), batch.start, settings.resamples)
        draws = np.stack([drawn["macro_f1"] for drawn in found])
        for replication, (first, second) in zip(
            batch, draws.reshape(len(batch), 2, seeds, -1), strict=True
        ):
            alarms += seeds_difference(first, second, replication)[2] < 0.05
    return alarms


def trained(labels: IntArray, spread: float, random: np.random.Generator) -> Predictions:
    """One seed of an experiment: the model, slightly better or worse."""
    shift = random.normal(0, spread)
    towards = np.eye(7) if shift > 0 else np.full((7, 7), 1 / 7)
    matrix = (1 - abs(shift)) * CONFUSION + abs(shift) * towards
    return predictions_of(labels, predict(labels, random, matrix))


def alarm_rows(settings: Settings) -> Iterator[list[str]]:
    """The rows of the second table, one per test and size."""
    found = [
        (test, n, alarms) for n in (300, 3000) for test, alarms in pair_alarms(n, settings).items()
    ]
    for seeds, spread in ((3, LITTLE), (3, MUCH), (5, MUCH)):
        differing = "little" if spread == LITTLE else "much"
        test = f"seeds × images, macro F1, {seeds} seeds each that differ {differing}"
        found.append((test, 300, seed_alarms(seeds, spread, 300, settings)))
    total = settings.tests
    for test, n, alarms in found:
        low, high = wilson(alarms, total)
        shown = f"{low:.1%} to {high:.1%}"
        yield [test, f"{n:,}", f"{total:,}", f"{alarms / total:.1%}", shown]


# The page --------------------------------------------------------------------------------------

INTRODUCTION = """# Do the intervals hold?

Test sets are simulated from a known model and passed to the functions that compute all intervals
and tests of a report. Written by

    {command}

in {minutes:.0f} minutes, with {resamples:,} resamples per bootstrap (a report uses {usual:,}).

The model of expression has seven classes with recalls of 45% to 85% (accuracy about 64%); valence
is normal around a mean per class, and its prediction is linear in it with noise. Accuracy, macro F1
and CCC of this model on the whole population of images have a closed form: they are the truth that
an interval should contain.

Class sizes are the same in all simulated test sets, because the class-stratified bootstrap imitates
exactly this: another test set with the same composition. The intervals of a report refer to such
sets. In the last block class sizes vary, as if images were collected regardless of their class:
macro F1 and above all CCC then also depend on the class mixture, which these intervals do not
cover, and they contain the truth less often.

Wilson's interval assumes that all images are equally difficult; with fixed class sizes accuracy
varies slightly less, so that it contains the truth slightly too often. In a class of k images,
resamples show (k - 1) / k of the variance; one block has a class of five images.
"""

ALARMS = """
## False alarms of the tests at 5%

Two equally good models that agree on half of the images and are independent on the rest; and the
seeds of one experiment, which differ by chance, split into two groups. There is no difference to
find; the tests may be wrong in 5% of the cases.

The bootstrap over seeds and images is conservative if seeds differ little: the effect of single
images on each seed appears among the seeds and again among the images, and is counted twice.
"""


def main() -> None:
    """Simulate, and write the page."""
    parser = parser_of(__doc__)
    parser.add_argument("--output", type=Path, default=Path("docs/intervals.md"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--coverage", type=int, default=1000, help="test sets")
    parser.add_argument("--tests", type=int, default=2000, help="pairs of models")
    parser.add_argument("--resamples", type=int, default=1000)
    given = parser.parse_args()
    settings = Settings(given.seed, given.coverage, given.tests, given.resamples)
    start = time.monotonic()
    covered, alarms = list(coverage_rows(settings)), list(alarm_rows(settings))
    options = " ".join(f"--{name} {value}" for name, value in vars(given).items())
    introduction = INTRODUCTION.format(
        command=f"python scripts/simulate_intervals.py {options}",
        minutes=(time.monotonic() - start) / 60,
        resamples=settings.resamples,
        usual=measure.RESAMPLES,
    )
    heading = ["metric", "interval", "n", "class sizes", "test sets", "held", "95% of that"]
    page = introduction + "\n## Coverage of the 95% intervals\n\n"
    page += table([*heading, "all above", "all below"], covered) + "\n" + ALARMS + "\n"
    page += table(["test", "n", "test sets", "alarms", "95% of that"], alarms) + "\n"
    given.output.write_text(page, encoding="utf-8")
    sys.stdout.write(page)


if __name__ == "__main__":
    main()
