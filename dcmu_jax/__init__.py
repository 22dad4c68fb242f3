"""Dataset-condensation-driven machine unlearning: the paper step by step, and whole runs.

Each is loaded from its own module when first asked for, so that ``import dcmu_jax`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dcmu_jax import schedules
    from dcmu_jax.baselines.own import register_method
    from dcmu_jax.data import (
        Dataset,
        ForgetRequest,
        Splits,
        load,
        parse_request,
        splits_from_arrays,
    )
    from dcmu_jax.errors import InputError
    from dcmu_jax.face import (
        cluster,
        collect,
        condense,
        evaluate,
        forget,
        overfitting_metric,
        train,
        unlearn,
        unlearning_metric,
    )
    from dcmu_jax.metrics.measurement import Measurement
    from dcmu_jax.metrics.scores import gap, tug_of_war
    from dcmu_jax.reporting.comparison import Comparison, compare
    from dcmu_jax.reporting.tables import cost_table, own_table, terminal_table
    from dcmu_jax.runs.config import RunConfig
    from dcmu_jax.runs.options import MethodOptions
    from dcmu_jax.runs.presets import preset
    from dcmu_jax.runs.results import read_results
    from dcmu_jax.runs.run import Run
    from dcmu_jax.training.classifier import Classifier
    from dcmu_jax.training.starting import adopt, from_torch, network, to_torch, variables_of
    from dcmu_jax.unlearning.task import Training

__version__ = "0.1.0"

__all__ = [
    "Classifier",
    "Comparison",
    "Dataset",
    "ForgetRequest",
    "InputError",
    "Measurement",
    "MethodOptions",
    "Run",
    "RunConfig",
    "Splits",
    "Training",
    "__version__",
    "adopt",
    "cluster",
    "collect",
    "compare",
    "condense",
    "cost_table",
    "evaluate",
    "forget",
    "from_torch",
    "gap",
    "load",
    "network",
    "overfitting_metric",
    "own_table",
    "parse_request",
    "preset",
    "read_results",
    "register_method",
    "schedules",
    "splits_from_arrays",
    "terminal_table",
    "to_torch",
    "train",
    "tug_of_war",
    "unlearn",
    "unlearning_metric",
    "variables_of",
]

_HOMES = {
    "dcmu_jax.data": (
        "Dataset",
        "ForgetRequest",
        "Splits",
        "load",
        "parse_request",
        "splits_from_arrays",
    ),
    "dcmu_jax.errors": ("InputError",),
    "dcmu_jax.face": (
        "cluster",
        "collect",
        "condense",
        "evaluate",
        "forget",
        "overfitting_metric",
        "train",
        "unlearn",
        "unlearning_metric",
    ),
    "dcmu_jax.metrics.measurement": ("Measurement",),
    "dcmu_jax.metrics.scores": ("gap", "tug_of_war"),
    "dcmu_jax.training.starting": ("adopt", "from_torch", "network", "to_torch", "variables_of"),
    "dcmu_jax.runs.config": ("RunConfig",),
    "dcmu_jax.runs.options": ("MethodOptions",),
    "dcmu_jax.runs.presets": ("preset",),
    "dcmu_jax.runs.results": ("read_results",),
    "dcmu_jax.runs.run": ("Run",),
    "dcmu_jax.reporting.comparison": ("Comparison", "compare"),
    "dcmu_jax.reporting.tables": ("cost_table", "own_table", "terminal_table"),
    "dcmu_jax.training.classifier": ("Classifier",),
    "dcmu_jax.baselines.own": ("register_method",),
    "dcmu_jax.unlearning.task": ("Training",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "schedules":
        return importlib.import_module("dcmu_jax.schedules")
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
