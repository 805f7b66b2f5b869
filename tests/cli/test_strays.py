# SPDX-License-Identifier: MIT
"""What each test here relies on at its end: that nothing is left is seen to, whatever it calls itself
and whichever session it is in."""

import os
import signal
import subprocess

from conftest import left_processes


def test_one_that_hides_is_found(place):
    for _ in range(10):
        # Its parents end while it is looked for.
        subprocess.run(["/bin/bash", "-c", "setsid bash -c 'exec -a other setsid sleep 300' &"],
                       cwd="/", env={"PATH": os.environ["PATH"]}, check=True,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        left = left_processes(grace=0.1)
        assert left
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert not left_processes()
