"""One of several processes that learn together; run by test_sharding.py, which compares them with one process.

Run as a program, it takes a folder, a rank, the number of ranks and the cases' names, and writes `RANK.pt` with what
`learn_case` returns for each.
"""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from helpers.tiny_models import PAD, random_rows, tiny_model

from sdar_agents.algorithms import make_algorithm
from sdar_agents.learner.learner import Learner
from sdar_agents.learner.settings import LearnerSettings
from sdar_agents.learner.sharding import whole
from sdar_agents.parallel import World
from sdar_agents.training.config import LoraSettings
from sdar_agents.training.saving.adapters import add_adapters

_FIRST, *_OTHERS = random_rows(14, seed=3)
# The rank that has it makes fewer passes than another.
ROWS = [replace(_FIRST, prompt_ids=_FIRST.prompt_ids + (7,) * 40), *_OTHERS]
STEPS = 2
MAX_TOKENS = 48

CASES: dict[str, dict[str, Any]] = {
    "grpo": {"method": "grpo"},
    "adamw": {"method": "sdar", "adamw": True},
    "sdar": {"method": "sdar"},
    "sdar, several teachers' weights": {"method": "sdar", "teacher": "ema", "ema_decay": 0.5, "epochs": 2},
    "frozen": {"method": "sdar", "teacher": "frozen"},
    "live": {"method": "grpo_opsd", "teacher": "live"},
    "divergence": {"method": "sdar", "algorithm": {"divergence": "jsd_full"}},
    "entropy": {"method": "grpo", "algorithm": {"entropy_coef": 0.01}, "mini_batches": 1},
    "episodes": {"method": "grpo", "algorithm": {"aggregation": "episode-mean-token-mean"}},
    "lora": {"method": "sdar", "lora": True},
    "checkpointing": {"method": "sdar", "gradient_checkpointing": True},
    "packing": {"method": "skill_sd", "packing": True},
    "autocast": {"method": "sdar", "autocast": True},
    "tied": {"method": "rlsd", "tied": True},
    "replicated": {"method": "sdar", "shard": "none"},
    "opsd": {"method": "opsd"},
    "grpo_opsd_beta0": {"method": "grpo_opsd_beta0"},
    "opsd_script": {"method": "opsd_script"},
    "skill_grpo": {"method": "skill_grpo"},
    "not finite": {"method": "grpo", "broken": True},
}


def learn_case(name: str, world: World | None = None) -> dict[str, Any]:
    """Take two steps; return gradients of each update, weights and metrics."""
    case = {"mini_batches": 2, "max_tokens": MAX_TOKENS, "lr": 1e-3, "gradient_parts_every": 1} | CASES[name]
    method, options = case.pop("method"), case.pop("algorithm", {})
    is_lora, is_broken, is_adamw = (case.pop(key, False) for key in ("lora", "broken", "adamw"))
    model: Any = tiny_model(tie_word_embeddings=case.pop("tied", False))
    if is_broken:
        with torch.no_grad():
            model.lm_head.weight[5] = math.nan
    if is_lora:
        model = add_adapters(model, LoraSettings(rank=2, alpha=4), seed=0)
        with torch.no_grad():
            for number, (key, parameter) in enumerate(model.named_parameters()):
                if "lora_B" in key:
                    torch.manual_seed(number)
                    parameter.normal_(std=0.1)
    settings = LearnerSettings(**case)
    learner = Learner(
        model, make_algorithm(method, suite="alfworld", **options), settings, pad_id=PAD, steps=10, world=world
    )
    if not is_adamw:
        # AdamW's first steps are the gradient's sign times the learning rate, also where that is rounding alone.
        learner.optimizer = torch.optim.SGD(learner._parameters, lr=0.1)  # type: ignore[assignment]
    gradients: list[torch.Tensor] = []
    step = learner.optimizer.step

    def noted(*args: Any) -> Any:
        gradients.append(torch.cat([whole(parameter.grad).flatten().clone() for parameter in learner._parameters]))
        return step(*args)

    learner.optimizer.step = noted  # type: ignore[method-assign]
    metrics, gaps, signals = [], [], []
    for number in range(1, STEPS + 1):
        result = learner.learn(ROWS, number, keep_signals=True)
        metrics.append(result.metrics)
        gaps.append(result.gaps)
        signals.append(None if result.signals is None else list(result.signals))
    weights = {key: whole(parameter).clone() for key, parameter in model.named_parameters()}
    average = (
        None if learner.average is None else {k: whole(v).clone() for k, v in learner.average.state_dict().items()}
    )
    return {
        "gradients": gradients,
        "weights": weights,
        "metrics": metrics,
        "gaps": gaps,
        "signals": signals,
        "average": average,
    }


def main(folder: str, rank: str, size: str, *names: str) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=int(rank), world_size=int(size)
    )
    found = {name: learn_case(name, World.current()) for name in names}
    torch.save(found, Path(folder, f"{rank}.pt"))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
