"""OpenCV Emotion as on Kaggle: two folders of seven class folders."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from layouts import FOLDERS, Face, Layout, in_turn, save, seven

PARTS = (("training", "Training", "train"), ("validation", "PublicTest", "test"))


def opencv_emotion(root: Path, faces: Sequence[Face]) -> Layout:
    """The faces of the seven classes, each class in both folders in turn."""
    expected = []
    for number, ((folder, usage, split), face) in enumerate(in_turn(seven(faces), PARTS)):
        name = f"{usage}_{number}.jpg"
        path = f"{folder}/{FOLDERS[face.label]}/{name}"
        save(face.image, root / path, mode="L", size=48)
        expected.append((f"{split}/{face.label}/{name}", path, split, face.label))
    samples = pd.DataFrame(expected, columns=["sample_id", "path", "split", "label"])
    dataset = {"name": "opencv_emotion", "root": str(root)}
    return Layout(dataset, samples, "opencv_emotion-unrecognised")
