"""What `sdar train` does: reads the configuration, trains, says where the run is."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sdar_benchmarks.provenance import now, platform_facts, revision, versions
from sdar_envs.errors import InvalidOption

__all__ = ["train_command"]


def train_command(args: argparse.Namespace, _: Mapping[str, Any]) -> None:
    """Train a model, or go on with a run."""
    try:
        # Here, so that nobody who only plays waits for torch.
        from sdar_agents.config import config_names, load_config  # noqa: PLC0415
        from sdar_agents.trainer import CONFIG, Trainer  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise InvalidOption(
            f"training needs {error.name}, which is not installed: pip install 'sdar-envs[train]'"
        ) from error
    if args.list:
        print("\n".join(config_names()))
        return
    overrides = list(args.overrides)
    if args.method is not None:
        overrides += ["--method", args.method]
    if (args.config is None) == (args.resume is None):
        raise InvalidOption(
            f"wanted --config NAME for a new run or --resume RUN for one that was begun; configurations of this "
            f"package: {', '.join(config_names())}."
        )
    if args.resume is not None:
        if args.out is not None:
            raise InvalidOption("--out was given beside --resume: a run goes on in its own folder.")
        folder = Path(args.resume)
        config = load_config(str(folder / CONFIG), overrides)
    else:
        config = load_config(args.config, overrides)
        name = f"{Path(args.config).stem}-{config.method}-{config.seed}"
        folder = Path("runs", name) if args.out is None else Path(args.out)
    facts = {
        "command": shlex.join(["sdar", *args.argv]),
        "started": now(),
        "revision": revision(),
        "versions": versions(),
        "platform": platform_facts(),
    }
    try:
        trainer = Trainer(config, folder, resume=args.resume is not None, facts=facts)
    except ModuleNotFoundError as error:
        raise InvalidOption(str(error)) from error
    print(f"training {config.method} for {config.steps} steps in {folder}", file=sys.stderr)
    trainer.run()
    print(folder)
