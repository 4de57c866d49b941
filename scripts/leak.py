"""How much augmenting before splitting inflates a test score.

`write` augments the faces in data/opencv_emotion like `ippm` did those of AffectNet: it rotates
each photograph by +20 and -20 degrees, happiness and neutral by +20 only, and drops the originals.
A second set is rotated by 2 degrees only, to check that a leak would be found. The suite trains on
both twice: split by file, like `ippm`, and split by photograph. `tell` prints the difference
between the scores, and whether a copy in training helps the first one.

    python scripts/leak.py write
    fer sweep configs/suites/leak.yaml
    python scripts/leak.py tell
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from fer_bench.config.dataset import Dataset
from fer_bench.data.images import read_image
from fer_bench.data.load import load_manifest
from fer_bench.data.manifest import Manifest
from fer_bench.errors import FerError, RunError
from fer_bench.metrics.intervals import percentile_interval
from fer_bench.metrics.significance import seeds_difference
from fer_bench.runs.directory import RunDirectory
from fer_bench.runs.predictions import read_predictions
from fer_bench.sweep.suite import Planned, load_suite

SUITE = Path(__file__).resolve().parents[1] / "configs" / "suites" / "leak.yaml"
ROTATED_ONCE = ("happiness", "neutral")
PER_CLASS = 1_000
RESAMPLES = 9_999
SEED = 0

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Copies:
    """A folder of copies of photographs, rotated by some degrees to both sides."""

    folder: Path
    degrees: int

    @property
    def photographs(self) -> Path:
        """The table with the photograph of each file."""
        return self.folder.with_name(f"{self.folder.name}.photographs.csv")


FAR = Copies(Path("data/rotated"), 20)
NEAR = Copies(Path("data/rotated_slightly"), 2)
# By network: the copies, and the names of its runs with a split by file and by photograph.
TRAINED = {
    "a small network from scratch": (FAR, "leak_augment_first", "leak_split_first"),
    "the iPPM on a frozen network": (FAR, "leak_ippm_augment_first", "leak_ippm_split_first"),
    "a small network from scratch, where copies are 4 degrees apart": (
        NEAR,
        "leak_slight_augment_first",
        "leak_slight_split_first",
    ),
}


# Writing ---------------------------------------------------------------------------------------


def write(manifest: Manifest, per_class: int, copies: Copies) -> int:
    """Write rotated copies of at most `per_class` photographs per class; returns their number."""
    training = manifest.split("train")
    groups = []
    for label, samples in training.groupby("label", sort=True):
        chosen = samples.sample(min(per_class, len(samples)), random_state=SEED)
        angles = (copies.degrees, -copies.degrees)[: 1 if label in ROTATED_ONCE else 2]
        folder = copies.folder / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        for photograph, path in zip(chosen["sample_id"], chosen["path"], strict=True):
            pixels = read_image(str(manifest.root / path), manifest.channels)
            image = Image.fromarray(pixels[:, :, 0] if manifest.channels == 1 else pixels)
            for degrees in angles:
                name = f"{Path(path).stem}_{degrees:+d}.png"
                image.rotate(degrees, Image.Resampling.BILINEAR).save(folder / name)
                groups.append((f"{label}/{name}", photograph))
    table = pd.DataFrame(groups, columns=["sample_id", "group"])
    table.to_csv(copies.photographs, index=False)
    return len(table)


# Results ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answers:
    """The predictions of the runs with one split for its test images.

    Attributes:
        correct: whether they are correct, by seed, (S, n).
        photographs: the number of the photograph of each image, (n,).
        twofold: whether the photograph was rotated twice, so that there is a copy, (n,).
        copied: whether that copy is among the training images, (n,).
    """

    correct: NDArray[np.bool_]
    photographs: NDArray[np.intp]
    twofold: NDArray[np.bool_]
    copied: NDArray[np.bool_]

    def accuracy(self, keep: NDArray[np.bool_] | None = None) -> FloatArray:
        """The accuracy by seed, in [0, 1], over all images or those of `keep`."""
        of = self.correct if keep is None else self.correct[:, keep]
        means: FloatArray = of.mean(axis=1)
        return means

    def draws(self, generator: np.random.Generator) -> FloatArray:
        """Accuracy by seed in resamples of the photographs, (S, R); copies are drawn together."""
        number = int(self.photographs.max()) + 1
        images = np.bincount(self.photographs, minlength=number)
        correct = np.stack([np.bincount(self.photographs, row, number) for row in self.correct])
        weights = generator.multinomial(number, np.full(number, 1 / number), RESAMPLES)
        draws: FloatArray = (correct @ weights.T) / (weights @ images)
        return draws


def answers(runs: Sequence[Planned], outputs: Path, groups: Mapping[str, str]) -> Answers:
    """Read the evaluated runs with one split, one per seed."""
    files = Counter(groups.values())
    manifest = load_manifest(runs[0].experiment.dataset)
    trained = {groups[name] for name in manifest.split("train")["sample_id"]}
    directories = [RunDirectory(outputs / run.run_id) for run in runs]
    saved = [read_predictions(directory.predictions("test")) for directory in directories]
    shown = [groups[name] for name in saved[0].sample_ids]
    expressions = [one.expression for one in saved]
    return Answers(
        np.stack([one.correct for one in expressions if one is not None]),
        np.unique(shown, return_inverse=True)[1],
        np.array([files[photograph] > 1 for photograph in shown]),
        np.array([photograph in trained for photograph in shown]),
    )


def findings(outputs: Path) -> Iterator[str]:
    """The results of the suite, in Markdown.

    Raises:
        RunError: a run of the suite is not evaluated.
    """
    runs = load_suite(SUITE).runs
    files = (RunDirectory(outputs / run.run_id).predictions("test") for run in runs)
    if left := sum(not path.exists() for path in files):
        raise RunError(
            f"{outputs}: {left} of {len(runs)} runs of the suite {SUITE.stem} are not evaluated.\n"
            "Run them: fer sweep configs/suites/leak.yaml"
        )
    for network, (copies, *names) in TRAINED.items():
        table = pd.read_csv(copies.photographs, dtype=str)
        groups = dict(zip(table["sample_id"], table["group"], strict=True))
        by_file, by_photograph = (
            answers([run for run in runs if run.experiment.name == name], outputs, groups)
            for name in names
        )
        yield from (f"What the leak adds to {network}:", "")
        yield from (*summary(by_file, by_photograph), "")


def summary(by_file: Answers, by_photograph: Answers) -> Iterator[str]:
    """A table of both splits, and their difference."""
    generator = np.random.default_rng(SEED)
    drawn = [arm.draws(generator) for arm in (by_file, by_photograph)]
    yield "| split | test images | of them with a copy in training | accuracy, mean over seeds |"
    yield "|---|---|---|---|"
    for name, arm, draws in zip(
        ("by file, after augmenting", "by photograph"),
        (by_file, by_photograph),
        drawn,
        strict=True,
    ):
        low, high = percentile_interval(draws.mean(axis=0))
        share = f"{arm.copied.sum():,} ({arm.copied.mean():.0%})"
        accuracy = f"{arm.accuracy().mean():.1%} [{low:.1%}, {high:.1%}]"
        yield f"| {name} | {len(arm.copied):,} | {share} | {accuracy} |"
    low, high, p = seeds_difference(drawn[0], drawn[1], SEED)
    inflated = by_file.accuracy().mean() - by_photograph.accuracy().mean()
    without = by_file.twofold & ~by_file.copied
    copied, others = (by_file.accuracy(keep).mean() for keep in (by_file.copied, without))
    yield ""
    yield (
        f"The leak adds {100 * inflated:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}] "
        f"(p = {p:.4f}; hierarchical bootstrap over seeds and photographs, {RESAMPLES:,} "
        "resamples). Among the test images that have a copy, the networks of the first split "
        f"classify {copied:.1%} correctly if the copy was in training, and {others:.1%} if it was "
        "not."
    )


def main() -> None:
    """Write the images, or print the results of the runs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    writing = commands.add_parser("write", help="write the rotated copies")
    writing.add_argument("--root", type=Path, default=Path("data/opencv_emotion"))
    writing.add_argument("--per-class", type=int, default=PER_CLASS)
    results = commands.add_parser("tell", help="print the results of the evaluated runs")
    results.add_argument("--outputs", type=Path, default=Path("outputs"))
    arguments = parser.parse_args()
    try:
        if arguments.command == "write":
            manifest = load_manifest(Dataset(name="opencv_emotion", root=arguments.root))
            for copies in (FAR, NEAR):
                count = write(manifest, arguments.per_class, copies)
                print(f"{copies.folder}: {count:,} images; {copies.photographs}")
        else:
            print("\n".join(findings(arguments.outputs)))
    except FerError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
