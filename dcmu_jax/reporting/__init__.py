"""Tables, figures, the verdict and the report of one comparison."""

from dcmu_jax.reporting.figures import cluster_figure, loss_histogram_figure, trajectory_figure
from dcmu_jax.reporting.html import write_report
from dcmu_jax.reporting.progress import training_progress
from dcmu_jax.reporting.style import method_colors, save_figure
from dcmu_jax.reporting.tables import cost_table, terminal_table
from dcmu_jax.reporting.verdict import summarise

__all__ = [
    "cluster_figure",
    "cost_table",
    "loss_histogram_figure",
    "method_colors",
    "save_figure",
    "summarise",
    "terminal_table",
    "training_progress",
    "trajectory_figure",
    "write_report",
]
