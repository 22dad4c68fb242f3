"""Figures of experiments.condensation, from its table and the condensed images it kept.

Command:  python -m experiments.condensation_figures condensation_small_cifar10_small
Writes:   experiments/results/NAME_{accuracy,seconds,images}.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments.condensation import figures
from experiments.writing import save


def main() -> None:
    """Draw again from what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="file name of the table, without suffix")
    parser.add_argument("--out", type=Path, default=Path("runs/condensation"))
    options = parser.parse_args()
    save(figures(options.name, options.out / options.name))


if __name__ == "__main__":
    main()
