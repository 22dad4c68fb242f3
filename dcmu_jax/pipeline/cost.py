"""What unlearning will cost beside retraining, known and said before it begins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from dcmu_jax.data.dataset import Splits
from dcmu_jax.data.requests import ForgetRequest
from dcmu_jax.pipeline.config import RunConfig
from dcmu_jax.pipeline.stages import of_whole_classes, serving_method, settings_of
from dcmu_jax.unlearning.modular import ModularUnlearning


class CostWarning(UserWarning):
    """Unlearning that is about to begin costs more than retraining."""


def _passes(method: ModularUnlearning) -> Iterator[tuple[str, int]]:
    """Place and epochs of each step that trains all parts on all that stays."""
    for place, rounds in (("round_steps", method.rounds), ("closing_steps", 1)):
        for number, step in enumerate(getattr(method, place)):
            if "beginning" in step.parts and step.on == "retain":
                yield f"{place}.{number}.epochs", rounds * step.epochs


def retrainings_to_expect(
    config: RunConfig, splits: Splits, request: ForgetRequest, name: str | None = None
) -> float:
    """What a preset (the run's own if not named) will cost at least, known before it starts.

    Counted are the steps that train all parts on all that stays, in passes over the images. The
    unit is a retraining.
    """
    method = serving_method(name or config.preset, config, splits, request)
    if not isinstance(method, ModularUnlearning):
        return 0.0
    epochs = sum(epochs for _, epochs in _passes(method))
    retained = len(splits.train) - len(request.ids)
    images = retained + (len(request.ids) if method.sees_forget_set else 0)
    return epochs * images / (config.training.epochs * retained)


def cost_warning(
    config: RunConfig,
    splits: Splits,
    request: ForgetRequest,
    place: str = " in a new run",
    *,
    name: str | None = None,
) -> str:
    """A sentence where unlearning will cost more than retraining; empty where it will not.

    Args:
        config: of the run.
        splits: of the data.
        request: to be served.
        place: where its settings can be changed.
        name: a preset, if not the run's own.
    """
    name = name or config.preset
    times = retrainings_to_expect(config, splits, request, name)
    if times <= 1:
        return ""
    method = cast(ModularUnlearning, serving_method(name, config, splits, request))
    dearest, _ = max(_passes(method), key=lambda found: found[1])
    whole = "online_classes" if of_whole_classes(splits, request) else "online"
    setting = f"{settings_of(config, name)}{whole}.{dearest}"
    epochs = config.training.epochs
    trained = f"{epochs} epoch{'s' * (epochs != 1)}"
    return (
        f"Forgetting by {name} will cost about {times:.2f} retrainings: its schedule is "
        f"for networks that were trained longer than {trained}. Retraining "
        f"is cheaper, and exact; or lower {setting.replace('_', '-')}{place}."
    )
