"""Unlearning: the collection protocol, modular training, what every method is given and gives."""
