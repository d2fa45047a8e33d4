"""What holds for all tests."""

from __future__ import annotations

import signal
from importlib.util import find_spec

# A shell starts background jobs with the interrupt signal ignored, and their children inherit that: the processes that
# tests interrupt would never stop.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No test measures time: on a busy machine any example can take long.
# Environments for some markers have no hypothesis.
if find_spec("hypothesis"):
    from hypothesis import settings

    settings.register_profile("sdar", deadline=None)
    settings.load_profile("sdar")
