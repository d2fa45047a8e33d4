"""Evaluations of starts, kept in a folder: runs that begin with the same weights evaluate them once.

An evaluation depends on the weights, the panel, the prompts and the seed alone. Its name is a checksum of all that, so
an evaluation of anything else is never taken for it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from sdar_agents.settings.reader import to_plain
from sdar_agents.training.config import TrainConfig
from sdar_envs.errors import CorruptData
from sdar_envs.files.json_text import read_json_object
from sdar_envs.storage import write_atomic

__all__ = ["StartEvaluations"]

_OF_THE_RUN = ("every", "at_start", "best_by", "starts")


class StartEvaluations:
    """The evaluation of a run's start, in a folder that runs share.

    Args:
        folder: gets a file for each start, panel and way to play it.
        config: of the run.
        fingerprint: of its first weights.
        skills: ids and checksums of the skills that the evaluation with skills shows from; None for none.
    """

    def __init__(self, folder: Path, config: TrainConfig, fingerprint: str, skills: Any) -> None:
        plain = to_plain(config)
        evaluation = {name: value for name, value in plain["evaluation"].items() if name not in _OF_THE_RUN}
        # What the weights are called in this run says nothing about them.
        model = {name: value for name, value in plain["model"].items() if name != "path"}
        facts = {
            "fingerprint": fingerprint,
            "evaluation": evaluation,
            "rollout": plain["rollout"],
            "model": model,
            "casts": config.casts_generation,
            "skills": [plain["skills"], skills],
            "context": plain["context"],
            "control": plain["control"],
            "versions": [version(name) for name in ("sdar-envs", "torch", "transformers")],
            "threads": torch.get_num_threads(),
        }
        text = json.dumps(facts, sort_keys=True, default=str)
        self.path = folder / f"start-{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"

    def read(self) -> tuple[dict[str, float], list[dict[str, Any]]] | None:
        """Return metrics and rows; None if the start was not evaluated yet.

        Raises:
            CorruptData: the file is damaged.
        """
        if not self.path.exists():
            return None
        found: Mapping[str, Any] = read_json_object(self.path)
        if not isinstance(found.get("metrics"), dict) or not isinstance(found.get("rows"), list):
            raise CorruptData(f"{self.path} is no evaluation of a start: delete it, and the next run makes it anew.")
        return found["metrics"], found["rows"]

    def write(self, metrics: Mapping[str, float], rows: list[dict[str, Any]]) -> None:
        """Keep an evaluation."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self.path, json.dumps({"metrics": dict(metrics), "rows": rows}) + "\n")
