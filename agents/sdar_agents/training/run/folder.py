"""Folder of a training run: its configuration, its facts, and the checks before it is used."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sdar_agents.rollout.recording import FORMAT
from sdar_agents.settings.reader import read_yaml, to_plain
from sdar_agents.training.config import TrainConfig, changed_settings, make_config
from sdar_envs.errors import InvalidOption, MissingData
from sdar_envs.files.json_text import read_json_object
from sdar_envs.importing import add_run_directory, names_from
from sdar_envs.storage import check_run, write_atomic

__all__ = ["CONFIG", "FACTS", "check_folder", "enter_run", "read_run_config", "write_facts"]

CONFIG = "config.yaml"
"""The run's configuration, with every setting written out."""

FACTS = "run.json"
"""Facts about the run: `format`, `directory` in which it was begun, versions, command, when it was resumed."""

# Settings that a resumed run may change: they decide for how long it trains and what it saves, not what a step does.
_FREE = ("steps", "checkpoints", "log")


def check_folder(folder: Path, config: TrainConfig, *, resume: bool) -> None:
    """Check that a run can be begun in a folder, or resumed.

    Args:
        folder: of the run.
        config: resolved.
        resume: whether the run is to be resumed.

    Raises:
        InvalidOption: the folder holds a run and `resume` is False, something else, or a run of another configuration.
        MissingData: there is nothing to resume.
    """
    if resume:
        _check_resumed(folder, config)
        return
    if (folder / CONFIG).exists():
        raise InvalidOption(f"{folder} already holds a run: continue it by --resume, or choose another folder.")
    # A start that failed may have left an empty ledger.
    ours = (".", "ledger.sqlite")
    if folder.exists() and any(not path.name.startswith(ours) for path in folder.iterdir()):
        raise InvalidOption(f"{folder} exists and is no training run: choose another folder.")


def _check_resumed(folder: Path, config: TrainConfig) -> None:
    enter_run(folder)
    # A run may have been begun when paths were still written down as they were given.
    before = to_plain(read_run_config(folder).resolved())
    changed = [
        name
        for name in changed_settings(before, to_plain(config))
        if name.partition(".")[0] not in _FREE or (name == "steps" and config.learner.schedule != "constant")
    ]
    if changed:
        raise InvalidOption(
            f"{folder} is a run of another configuration: {', '.join(changed)} changed. Resume with the same settings, "
            "or start a new run."
        )


def enter_run(folder: Path) -> None:
    """Prepare for resuming a run: check that there is one, and import `module:name` objects from where it was begun.

    Raises:
        MissingData: the folder holds no run.
    """
    check_run(folder, CONFIG)
    path = folder / FACTS
    if path.exists():
        add_run_directory(read_json_object(path).get("directory"))


def read_run_config(folder: Path) -> TrainConfig:
    """Read the configuration of a run.

    Raises:
        MissingData: the folder is no training run.
    """
    try:
        text = (folder / CONFIG).read_text(encoding="utf-8")
    except OSError as error:
        raise MissingData(f"{folder} is no training run ({error}).") from error
    given = read_yaml(text, str(folder / CONFIG))
    names_from(given, folder / CONFIG)
    return make_config(given)


def write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write the facts of a run, or add those of a resumed run to what it began with."""
    path = folder / FACTS
    facts = {"directory": os.getcwd(), **facts}
    if path.exists():
        begun = read_json_object(path)
        facts = {**begun, "resumed": [*begun.get("resumed", []), facts]}
    write_atomic(path, json.dumps({**facts, "format": FORMAT}, indent=1) + "\n")
