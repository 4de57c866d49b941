"""How much a test score is inflated by augmenting first and splitting after.

`write` makes of the faces in data/opencv_emotion the files that `ippm` made of AffectNet's: each
photograph rotated by +20 and by -20 degrees, happiness and neutral by +20 alone, the originals not
kept; and, to see whether a leak would be seen, the same by 2 degrees. The suite trains on them
twice: divided file by file, as there, and divided by photograph. `tell` says how far the two scores
are apart, and whether a copy helps the first.

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
    """Rotated copies of photographs, by so many degrees to either side, in a folder."""

    folder: Path
    degrees: int

    @property
    def photographs(self) -> Path:
        """The table that says which photograph each file shows."""
        return self.folder.with_name(f"{self.folder.name}.photographs.csv")


FAR = Copies(Path("data/rotated"), 20)
NEAR = Copies(Path("data/rotated_slightly"), 2)
# What is trained on which copies, with the names of its runs: divided file by file, by photograph.
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
    """Write rotated copies of at most `per_class` photographs a class; returns how many files."""
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


# Telling ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answers:
    """What the runs of one division said of its test images.

    Attributes:
        correct: which were right, by seed, (S, n).
        photographs: which photograph each image shows, as numbers, (n,).
        twofold: whose photograph was rotated twice, so that there is a copy, (n,).
        copied: of which that copy is among the training images, (n,).
    """

    correct: NDArray[np.bool_]
    photographs: NDArray[np.intp]
    twofold: NDArray[np.bool_]
    copied: NDArray[np.bool_]

    def accuracy(self, keep: NDArray[np.bool_] | None = None) -> FloatArray:
        """In [0, 1], by seed."""
        of = self.correct if keep is None else self.correct[:, keep]
        means: FloatArray = of.mean(axis=1)
        return means

    def draws(self, generator: np.random.Generator) -> FloatArray:
        """Accuracy by seed in resamples of the photographs, (S, R): copies are drawn together."""
        number = int(self.photographs.max()) + 1
        images = np.bincount(self.photographs, minlength=number)
        right = np.stack([np.bincount(self.photographs, row, number) for row in self.correct])
        weights = generator.multinomial(number, np.full(number, 1 / number), RESAMPLES)
        draws: FloatArray = (right @ weights.T) / (weights @ images)
        return draws


def answers(runs: Sequence[Planned], outputs: Path, groups: Mapping[str, str]) -> Answers:
    """Read the evaluated runs of one division, one a seed."""
    files = Counter(groups.values())
    manifest = load_manifest(runs[0].experiment.dataset)
    trained = {groups[name] for name in manifest.split("train")["sample_id"]}
    directories = [RunDirectory(outputs / run.run_id) for run in runs]
    said = [read_predictions(directory.predictions("test")) for directory in directories]
    shown = [groups[name] for name in said[0].sample_ids]
    expressions = [one.expression for one in said]
    return Answers(
        np.stack([one.correct for one in expressions if one is not None]),
        np.unique(shown, return_inverse=True)[1],
        np.array([files[photograph] > 1 for photograph in shown]),
        np.array([photograph in trained for photograph in shown]),
    )


def told(outputs: Path) -> Iterator[str]:
    """What the suite shows, in Markdown.

    Raises:
        RunError: a run of the suite is not evaluated.
    """
    runs = load_suite(SUITE).runs
    said = (RunDirectory(outputs / run.run_id).predictions("test") for run in runs)
    if left := sum(not path.exists() for path in said):
        raise RunError(
            f"{outputs}: {left} of {len(runs)} runs of the suite {SUITE.stem} are not evaluated.\n"
            "`fer sweep configs/suites/leak.yaml` brings them to their end."
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
    """A table of both divisions, and what is between them."""
    generator = np.random.default_rng(SEED)
    drawn = [arm.draws(generator) for arm in (by_file, by_photograph)]
    yield "| divided | test images | of them with a copy in training | accuracy, mean over seeds |"
    yield "|---|---|---|---|"
    for name, arm, draws in zip(
        ("file by file, after augmenting", "by photograph"),
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
        "resamples). Of the test images of which there is a copy, the networks of the first "
        f"division are right on {copied:.1%} where it was in training, and on {others:.1%} where "
        "it was not."
    )


def main() -> None:
    """Write the images, or tell what the runs say."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    writing = commands.add_parser("write", help="make the rotated copies")
    writing.add_argument("--root", type=Path, default=Path("data/opencv_emotion"))
    writing.add_argument("--per-class", type=int, default=PER_CLASS)
    telling = commands.add_parser("tell", help="say what the evaluated runs show")
    telling.add_argument("--outputs", type=Path, default=Path("outputs"))
    arguments = parser.parse_args()
    try:
        if arguments.command == "write":
            manifest = load_manifest(Dataset(name="opencv_emotion", root=arguments.root))
            for copies in (FAR, NEAR):
                count = write(manifest, arguments.per_class, copies)
                print(f"{copies.folder}: {count:,} images; {copies.photographs}")
        else:
            print("\n".join(told(arguments.outputs)))
    except FerError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
