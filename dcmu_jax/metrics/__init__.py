"""What is measured of a model that has forgotten, and how far that is from retraining."""

from dcmu_jax.metrics.accuracy import Accuracies, accuracies, measure
from dcmu_jax.metrics.gradients import unlearning_metric
from dcmu_jax.metrics.measurement import METRICS, Better, Measurement, Metric, Trajectory
from dcmu_jax.metrics.membership import Control, control_losses_for, loss_attack
from dcmu_jax.metrics.scores import gap, tug_of_war, with_scores

__all__ = [
    "METRICS",
    "Accuracies",
    "Better",
    "Control",
    "Measurement",
    "Metric",
    "Trajectory",
    "accuracies",
    "control_losses_for",
    "gap",
    "loss_attack",
    "measure",
    "tug_of_war",
    "unlearning_metric",
    "with_scores",
]
