"""Successive requests: no two of their networks share their draws."""

from experiments.unlearning_cycles import seed_of


def test_every_seed_and_cycle_draws_by_its_own():
    pairs = [(seed, cycle) for seed in range(101, 107) for cycle in range(1, 11)]
    assert len({seed_of(*pair) for pair in pairs} | {seed for seed, _ in pairs}) == 66
