"""Inception-ResNet (Szegedy et al., 2017), as Keras builds it."""

from fer_bench.models.applications import from_applications, minus_one_to_one
from fer_bench.registry import BACKBONES

BACKBONES.register(
    "inceptionresnetv2",
    from_applications(
        "InceptionResNetV2",
        "inceptionresnet",
        "RGB / 127.5 - 1",
        minus_one_to_one,
        75,
        imagenet_file="inception_resnet_v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
    ),
)
