"""What holds for all tests."""

from __future__ import annotations

import signal

# A shell's background jobs inherit an ignored SIGINT, and would pass it on: the commands under test could then not be
# interrupted. One that is handled here is at its default again in whatever is started.
signal.signal(signal.SIGINT, signal.default_int_handler)
