"""Where in the image each place of a feature map looks.

Araujo et al., "Computing receptive fields of convolutional neural networks", Distill 2019,
doi 10.23915/distill.00021. Padding and stride decide where the centres are: a convolution of
stride 2 with `same` padding over an even size pads only right and below, so its places look half a
pixel further right and down than an even grid over the image would say.
"""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from fer_bench.models.build import inputs_of

_WINDOWED = (
    *(layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D),
    *(layers.MaxPooling2D, layers.AveragePooling2D),
)


class _Field(NamedTuple):
    """What the places of a map see along one axis, in pixels of the image.

    Attributes:
        first: the first pixel that place 0 sees; negative where that is padding.
        last: the last pixel that it sees.
        step: pixels between neighbouring places.
    """

    first: float
    last: float
    step: float

    def shifted(self, places: float) -> "_Field":
        return _Field(self.first + places * self.step, self.last + places * self.step, self.step)


def centres(model: Any, layer: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The centres of the receptive fields of a feature map.

    Args:
        model: a network from images to outputs.
        layer: one of its layers, with an output of shape (n, h, w, c).

    Returns:
        The row (h,) and the column (w,) of the centre of each place, in pixels of the image, where
        0 is the centre of the first pixel. An even grid where a layer is on the way whose effect on
        the places is unknown.
    """
    sizes, places = model.input.shape[1:3], layer.output.shape[1:3]
    rows, columns = (
        _centres(_fields(model, axis)[layer.name], sizes[axis], places[axis]) for axis in (0, 1)
    )
    return rows, columns


def _centres(field: _Field | None, size: int, places: int) -> NDArray[np.float64]:
    index = np.arange(places, dtype=np.float64)
    if field is None:
        return (index + 0.5) * size / places - 0.5
    return index * field.step + (field.first + field.last) / 2


def _fields(model: Any, axis: int) -> dict[str, _Field | None]:
    """By the name of the layer or operation, what its places see; None where unknown."""
    fields: dict[str, _Field | None] = {}
    for operation in model.operations:
        if isinstance(operation, layers.InputLayer):
            fields[operation.name] = _Field(0, 0, 1)
            continue
        sources = inputs_of(operation)
        # A gate of one place (squeeze and excitation) sees everything, and moves nothing.
        size = max(_size(source, axis) for source in sources)
        seen = [fields[source.name] for source in sources if _size(source, axis) == size]
        known = [field for field in seen if field is not None]
        all_known = size and len(known) == len(seen)
        fields[operation.name] = _after(operation, _union(known), axis, size) if all_known else None
    return fields


def _size(operation: Any, axis: int) -> int:
    """Places along an axis of what an operation gives; 0 where that is no map."""
    output = operation.output
    is_map = isinstance(output, keras.KerasTensor) and len(output.shape) == 4
    return int(output.shape[1 + axis] or 0) if is_map else 0


def _union(fields: list[_Field]) -> _Field:
    """What is seen through several branches: the widest decides."""
    return _Field(
        min(field.first for field in fields), max(field.last for field in fields), fields[0].step
    )


def _after(operation: Any, field: _Field, axis: int, size: int) -> _Field | None:
    """What the output of an operation sees whose input, of `size` places, sees `field`."""
    if isinstance(operation, _WINDOWED):
        return _after_window(operation, field, axis, size)
    if isinstance(operation, layers.ZeroPadding2D):
        return field.shifted(-operation.padding[axis][0])
    if isinstance(operation, layers.Cropping2D):
        return field.shifted(operation.cropping[axis][0])
    if isinstance(operation, layers.UpSampling2D):
        factor = operation.size[axis]
        finer = field._replace(step=field.step / factor)
        return finer.shifted(-(factor - 1) / 2)
    return field if _size(operation, axis) == size else None


def _after_window(layer: Any, field: _Field, axis: int, size: int) -> _Field:
    window = getattr(layer, "pool_size", None) or layer.kernel_size
    reach = (window[axis] - 1) * getattr(layer, "dilation_rate", (1, 1))[axis]
    stride, places = layer.strides[axis], _size(layer, axis)
    padding = 0
    if layer.padding == "same":  # as TensorFlow pads: the odd pixel goes right and below
        padding = max((places - 1) * stride + reach + 1 - size, 0) // 2
    first, step = field.shifted(-padding), field.step
    return _Field(first.first, first.last + reach * step, step * stride)
