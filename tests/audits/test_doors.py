"""What is no array of its kind is refused, whichever function it is given to."""

import subprocess
import sys
from pathlib import Path


def test_every_function_of_arrays_refuses_what_is_none_and_takes_any_dtype():
    script = Path(__file__).with_name("doors.py")
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
