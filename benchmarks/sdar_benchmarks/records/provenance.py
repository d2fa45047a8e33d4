"""Provenance of results: software versions, git revision, machine."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import sdar_envs

__all__ = ["now", "platform_facts", "revision", "training_facts", "versions"]


def now() -> str:
    """Return the current time in UTC, such as `2026-11-01T12:00:00Z`."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that can change an episode."""
    packages = {name: version(name) for name in ("sdar-envs", "gymnasium", "numpy")}
    return {"python": platform.python_version(), **packages}


def revision() -> str | None:
    """Return the git commit of this package, with `-dirty` for uncommitted changes; None outside a checkout."""
    package = Path(sdar_envs.__file__).resolve().parent
    command = ["git", "-C", str(package.parent), "describe", "--always", "--abbrev=40", "--dirty", "--match="]
    try:
        top = subprocess.run([*command[:3], "rev-parse", "--show-toplevel"], capture_output=True, text=True, check=True)
        if Path(top.stdout.strip()) != package.parent:
            # Installed somewhere inside another project's checkout.
            return None
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def platform_facts() -> dict[str, str | int | None]:
    """Return the processor and its number of cores, and the operating system."""
    return {"cpu": _cpu_model(), "cores": os.cpu_count(), "system": platform.platform()}


def training_facts() -> dict[str, Any]:
    """Return time, git revision, software versions and platform, for the `run.json` of a training run.

    The platform has `vectors`, the instructions that torch takes, such as `AVX512`: rounding depends on them, and
    processors of one name differ in them.
    """
    import torch  # noqa: PLC0415  (only training has it)

    packages = {name: version(name) for name in ("torch", "transformers")}
    return {
        "started": now(),
        "revision": revision(),
        "versions": versions() | packages,
        "platform": platform_facts() | {"vectors": torch.backends.cpu.get_cpu_capability()},
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
