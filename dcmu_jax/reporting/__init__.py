"""Tables, figures, the verdict and the report of one comparison."""

from dcmu_jax.reporting.figures import cluster_figure, loss_histogram_figure, trajectory_figure
from dcmu_jax.reporting.html import write_report
from dcmu_jax.reporting.progress import training_progress
from dcmu_jax.reporting.style import method_colors, save_figure
from dcmu_jax.reporting.tables import cost_table, read_csv, terminal_table, write_csv
from dcmu_jax.reporting.verdict import summarise

__all__ = [
    "cluster_figure",
    "cost_table",
    "loss_histogram_figure",
    "method_colors",
    "read_csv",
    "save_figure",
    "summarise",
    "terminal_table",
    "training_progress",
    "trajectory_figure",
    "write_csv",
    "write_report",
]
