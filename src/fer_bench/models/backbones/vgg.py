"""VGG (Simonyan and Zisserman, 2015), as Keras builds it."""

from fer_bench.models.applications import centred_bgr, from_applications
from fer_bench.registry import BACKBONES

for name in ("VGG16", "VGG19"):
    file = f"{name.lower()}_weights_tf_dim_ordering_tf_kernels_notop.h5"
    spec = from_applications(name, "vgg", "BGR - ImageNet means", centred_bgr, imagenet_file=file)
    BACKBONES.register(name.lower(), spec)
