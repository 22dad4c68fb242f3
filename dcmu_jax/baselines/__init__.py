"""The methods that modular unlearning is compared with, the user's own, and all by their names."""
