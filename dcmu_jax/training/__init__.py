"""The one training loop, its state on disk, its clock, and trained networks as values."""
