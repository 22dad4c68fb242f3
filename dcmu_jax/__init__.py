"""Dataset-condensation-driven machine unlearning."""

__version__ = "0.1.0"
