"""``python -m dcmu_jax`` is ``dcmu``, where that is not in ``PATH``."""

import sys

from dcmu_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())
