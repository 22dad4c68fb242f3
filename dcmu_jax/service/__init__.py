"""Serving deletions for years: a workspace of files that loses no request and no network."""

from dcmu_jax.service.requesting import Answer
from dcmu_jax.service.verification import Status, Verification
from dcmu_jax.service.workspace import Workspace

__all__ = ["Answer", "Status", "Verification", "Workspace"]
