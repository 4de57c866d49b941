"""ResNet (He et al., 2016), versions 1 and 2, as Keras builds them."""

from dataclasses import replace

from fer_bench.config.model import Neck
from fer_bench.models.applications import centred_bgr, from_applications, minus_one_to_one
from fer_bench.registry import BACKBONES

RESNET50 = from_applications(
    "ResNet50",
    "resnet",
    "BGR - ImageNet means",
    centred_bgr,
    imagenet_file="resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
)
RESNET152V2 = from_applications(
    "ResNet152V2",
    "resnet",
    "RGB / 127.5 - 1",
    minus_one_to_one,
    imagenet_file="resnet152v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
)

BACKBONES.register("resnet50", RESNET50)
BACKBONES.register("resnet152v2", RESNET152V2)
BACKBONES.register("resnet50_ippm", replace(RESNET50, neck=Neck(name="ippm")))
