#!/bin/sh
# Runs a command where JAX uses the accelerator that the container was given.
set -e
python -c "
import sys
from dcmu_jax.errors import InputError
from dcmu_jax.platforms import check_accelerator
try:
    check_accelerator()
except InputError as error:
    sys.exit(str(error))
"
exec "$@"
