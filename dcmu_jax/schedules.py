"""Schedules of the online phase as values, for ``dcmu.unlearn``.

>>> paper("cnn").rounds, paper("cnn").tail
(30, 25)
>>> import dataclasses
>>> dataclasses.replace(paper("cnn"), rounds=10, tail=5).rounds
10
"""

from __future__ import annotations

from dcmu_jax.runs.presets import preset
from dcmu_jax.unlearning.modular import Collecting, ModularUnlearning, Offline
from dcmu_jax.unlearning.schedule import Reset, Step

__all__ = [
    "Collecting",
    "ModularUnlearning",
    "Offline",
    "Reset",
    "Step",
    "condensed",
    "paper",
    "recommended",
]


def _of(name: str, model: str, whole_classes: bool) -> ModularUnlearning:
    options = preset(name, model)
    return options.online_classes if whole_classes else options.online


def paper(model: str = "mlp", *, whole_classes: bool = False) -> ModularUnlearning:
    """As published: ``beginning`` on the reduced set, ``final`` on remembrance samples.

    Args:
        model: of the catalogue; any other name has the MLP's settings.

    Other Args:
        whole_classes: the settings for requests of whole classes.
    """
    return _of("paper", model, whole_classes)


def recommended(model: str = "mlp", *, whole_classes: bool = False) -> ModularUnlearning:
    """The form nearest to retraining for its time; trains on the whole retain set.

    Args:
        model: see ``paper``.

    Other Args:
        whole_classes: see ``paper``.
    """
    return _of("recommended", model, whole_classes)


def condensed(model: str = "mlp", *, whole_classes: bool = False) -> ModularUnlearning:
    """Trains on the reduced retain set alone, and never looks at the forget set.

    Args:
        model: see ``paper``.

    Other Args:
        whole_classes: see ``paper``.
    """
    return _of("condensed", model, whole_classes)
