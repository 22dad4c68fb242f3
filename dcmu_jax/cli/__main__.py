"""`python -m dcmu_jax.cli`, the same as `dcmu`."""

import sys

from dcmu_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())
