"""Models in three named parts: the catalogue, and what works on a model part by part."""

from dcmu_jax.networks.catalogue import DTYPES, MODELS, ModelEntry, create
from dcmu_jax.networks.cnn import CNN
from dcmu_jax.networks.convnet import ConvNet
from dcmu_jax.networks.mlp import MLP
from dcmu_jax.networks.partition import (
    PARTS,
    apply_features,
    apply_parts,
    check_parts,
    count_parameters,
    freeze_mask,
    initialise,
    part_optimizer,
    partition,
)
from dcmu_jax.networks.resnet import ResNet18
from dcmu_jax.networks.vgg import VGG16, VGG16BN

__all__ = [
    "CNN",
    "DTYPES",
    "MLP",
    "MODELS",
    "PARTS",
    "VGG16",
    "VGG16BN",
    "ConvNet",
    "ModelEntry",
    "ResNet18",
    "apply_features",
    "apply_parts",
    "check_parts",
    "count_parameters",
    "create",
    "freeze_mask",
    "initialise",
    "part_optimizer",
    "partition",
]
