"""Quick forms of what `core` has plainly: each file names its plain twin and the test of both.

Nothing here knows of banks, runs or metrics: arrays and feature functions go in, arrays come out.
"""
