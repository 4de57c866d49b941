"""OpenCV Emotion as on Kaggle: two folders of seven class folders."""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import pandas as pd

from layouts import Face, Layout, save

FOLDERS = {
    "anger": "angry",
    "disgust": "disgust",
    "fear": "fear",
    "happiness": "happy",
    "neutral": "neutral",
    "sadness": "sad",
    "surprise": "surprise",
}
PARTS = (("training", "Training", "train"), ("validation", "PublicTest", "test"))


def opencv_emotion(root: Path, faces: Sequence[Face]) -> Layout:
    """The faces of the seven classes, each class in both folders in turn."""
    parts = {label: cycle(PARTS) for label in FOLDERS}
    expected = []
    for number, face in enumerate(faces):
        if face.label in parts:
            folder, usage, split = next(parts[face.label])
            name = f"{usage}_{number}.jpg"
            path = f"{folder}/{FOLDERS[face.label]}/{name}"
            save(face.image, root / path, mode="L", size=48)
            expected.append((f"{split}/{face.label}/{name}", path, split, face.label))
    samples = pd.DataFrame(expected, columns=["sample_id", "path", "split", "label"])
    dataset = {"name": "opencv_emotion", "root": str(root)}
    return Layout(dataset, samples, "opencv_emotion-unrecognised")
