"""Tables over seeds, requests and methods: cells measured once, worker processes, means."""

from dcmu_jax.sweeps.cells import AGAIN, Bench, Group
from dcmu_jax.sweeps.piece import Piece
from dcmu_jax.sweeps.pool import Step, run_in_pool
from dcmu_jax.sweeps.summaries import mean_and_interval, means, scored_cells
from dcmu_jax.sweeps.sweep import Sweep, Variant

__all__ = [
    "AGAIN",
    "Bench",
    "Group",
    "Piece",
    "Step",
    "Sweep",
    "Variant",
    "mean_and_interval",
    "means",
    "run_in_pool",
    "scored_cells",
]
