"""What holds for all tests."""

from __future__ import annotations

import signal

# A shell starts background jobs with the interrupt signal ignored, and their children inherit that: the processes that
# tests interrupt would never stop.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
