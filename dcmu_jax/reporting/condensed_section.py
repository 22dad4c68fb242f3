"""A condensed model as a section: its table, figure 4, and the diagram of its stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dcmu_jax.applications.condensed_model_settings import Construction
from dcmu_jax.reporting.condensed_conclusions import DIAGRAM, comparison_conclusion
from dcmu_jax.reporting.condensed_diagram import diagram
from dcmu_jax.reporting.condensed_model import COLUMNS, LEGEND, comparison_figure, row_texts
from dcmu_jax.reporting.sections import Drawn, Numbers, Section


def condensed_section(
    rows: Sequence[Mapping[str, Any]], construction: Construction, title: str
) -> Section:
    """The section of one condensed model.

    Args:
        rows: of one target, from ``run_condensed_model``, retraining first.
        construction: how it was made.
        title: its heading.
    """
    target = str(rows[0]["target"])
    table = Numbers(
        f"The target {target}, trained in each way",
        ["trained on", *COLUMNS.values()],
        [row_texts(row)[1:] for row in rows],
        LEGEND,
        reference=True,
    )
    drawn = [
        Drawn(
            "comparison",
            "Every way to train the target.",
            comparison_figure(rows),
            comparison_conclusion(rows),
        ),
        Drawn(
            "construction",
            "The stages of the condensed model, and what trains in each.",
            diagram(construction, target),
            DIAGRAM,
        ),
    ]
    return Section(title, tables=[table], figures=drawn)
