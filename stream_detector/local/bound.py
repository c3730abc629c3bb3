"""Run a program that dies with the one that started it: `python bound.py PARENT_PID PROGRAM ARGUMENT...`.

Linux offers this as a flag that a process sets on itself (PR_SET_PDEATHSIG) and that survives exec. Setting it
here, between start and exec, keeps `preexec_fn` out of the parent, where it is unsafe beside threads. Standard
library only: it runs isolated and without site-packages, so that it costs 20 ms. It knows nothing of what it runs.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    parent, program = int(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)  # the parent died before the flag was set
    os.execv(program[0], program)  # noqa: S606
