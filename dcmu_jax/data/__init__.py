"""Datasets as arrays with ids: sources, forget requests, remembrance samples, augmentation."""

from dcmu_jax.data.arrays import splits_from_arrays
from dcmu_jax.data.augmentation import Augmentation, augment
from dcmu_jax.data.dataset import Dataset, Normalisation, Splits, channel_statistics
from dcmu_jax.data.remembrance import allowed_remembrance, remembrance_samples
from dcmu_jax.data.requests import ForgetRequest, parse_request, request_for_ids
from dcmu_jax.data.sources import load

__all__ = [
    "Augmentation",
    "Dataset",
    "ForgetRequest",
    "Normalisation",
    "Splits",
    "allowed_remembrance",
    "augment",
    "channel_statistics",
    "load",
    "parse_request",
    "remembrance_samples",
    "request_for_ids",
    "splits_from_arrays",
]
