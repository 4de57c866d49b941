"""The types of the arrays that metrics take and return."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
# float32 for the counts of resamples, float64 for weights of one.
WeightArray = NDArray[np.floating[Any]]
