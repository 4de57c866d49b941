"""MobileNetV3 (Howard et al., 2019), as Keras builds it."""

from fer_bench.models.applications import from_applications
from fer_bench.registry import BACKBONES

for name, size in (("MobileNetV3Small", "small"), ("MobileNetV3Large", "large")):
    file = f"weights_mobilenet_v3_{size}_224_1.0_float_no_top_v2.h5"
    spec = from_applications(
        name, "mobilenet", "RGB / 127.5 - 1", imagenet_file=file, depthwise=True
    )
    BACKBONES.register(name.lower(), spec)
