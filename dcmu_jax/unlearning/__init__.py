"""Unlearning: the collection protocol, modular training, and the methods it is compared with."""
