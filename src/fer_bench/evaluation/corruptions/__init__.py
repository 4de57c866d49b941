"""Corrupted images: what may happen to a photograph between the face and the network.

`effects` changes one image, `catalogue` lists the corruptions with their published strengths and
applies them, `conditions` turns `noise,fog:3` into a list of corruptions and severities.
"""

from fer_bench.evaluation.corruptions.catalogue import CORRUPTIONS, corrupt
from fer_bench.evaluation.corruptions.conditions import Condition, column, conditions, select

__all__ = ["CORRUPTIONS", "Condition", "column", "conditions", "corrupt", "select"]
