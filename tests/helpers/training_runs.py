"""Training runs of a random tiny model: configurations for the tests, and a process that is killed in one.

Run as a program, it trains in a child for each argument, which a signal ends at that moment, and says how it ended.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from sdar_agents.settings.reader import merge
from sdar_agents.training.config import TrainConfig, make_config
from sdar_agents.training.saving import checkpoints
from sdar_agents.training.trainer import Trainer

torch.set_num_threads(1)

ENVIRONMENTS = {
    "alfworld": {"env_id": "sdar/ALFWorld-v0", "env_kwargs": {"max_steps": 2}},
    "webshop": {"env_id": "sdar/WebShop-v0", "env_kwargs": {"max_steps": 2}},
    "search_qa": {"env_id": "sdar/SearchQA-v0", "env_kwargs": {"max_steps": 2}},
}


def run_config(path: Path, plays: str = "alfworld", /, **settings: Any) -> TrainConfig:
    base = {
        "model": {"path": str(path)},
        "rollout": {**ENVIRONMENTS[plays], "max_new_tokens": 4, "history_length": 1},
        "steps": 3,
        "tasks_per_step": 1,
        "group_size": 2,
        "skills": {"k": 1},
        "learner": {"lr": 1e-3, "mini_batches": 2},
        "evaluation": {"every": 0},
        "checkpoints": {"every": 0},
        "log": {"tracker": "none", "trajectories_every": 0, "progress": False},
    }
    return make_config(merge(base, settings))


def resumed_config(model: Path) -> TrainConfig:
    """A run with everything that has a state: teacher, ledger, bandit, evaluation, trajectories, best checkpoint."""
    return run_config(
        model,
        steps=6,
        group_size=3,
        skills={"retriever": "ucb", "k": 1, "varied": True},
        learner={"teacher": "ema", "gradient_parts_every": 2},
        evaluation={"every": 2, "tasks": 1, "with_skills": False},
        checkpoints={"every": 1, "keep": 2},
        log={"trajectories_every": 1},
    )


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def train_until(moment: str, folder: Path, config: TrainConfig) -> None:
    """Train a run that kills its process after step 3 was saved, in step 4 or while step 4 is being saved."""
    trainer = Trainer(config, folder)
    if moment == "between":
        learn = trainer.learner.learn

        def learn_or_die(rows: Any, step: int, **options: Any) -> Any:
            result = learn(rows, step, **options)
            return die() if step == 4 else result

        trainer.learner.learn = learn_or_die  # type: ignore[method-assign]
    else:
        flush = checkpoints._flush

        def flush_or_die(path: Path) -> None:
            flush(path)
            # The model is on the disk by then, under the hidden name.
            if trainer.step == 4 and path.name == "model.safetensors":
                die()

        checkpoints._flush = flush_or_die
    trainer.run()


def main(model: str, *arguments: str) -> None:
    for moment, folder in zip(arguments[::2], arguments[1::2], strict=True):
        child = os.fork()
        if child == 0:
            train_until(moment, Path(folder), resumed_config(Path(model)))
            os._exit(0)
        print(moment, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


if __name__ == "__main__":
    main(*sys.argv[1:])
