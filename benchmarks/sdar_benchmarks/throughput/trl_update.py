"""Throughput of the update beside TRL's: tokens per CPU second of one optimiser step of GRPO.

The random model of `generation` learns from 32 rows of random tokens in float32 on one thread, without a KL penalty,
from the same weights: forward, loss, backward, clipping and AdamW. TRL's `GRPOTrainer` computes the loss of four
micro-batches of eight rows, each as wide as the longest prompt and response of the step, which is how it splits one.
Ours may hold as many tokens in a micro-batch. That both have the same gradient is tested elsewhere.
"""

from __future__ import annotations

import copy
import random
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch

from sdar_agents.algorithms import make_algorithm
from sdar_agents.learner import Learner, LearnerSettings, Phases
from sdar_agents.types import Row
from sdar_benchmarks.throughput.figures import Figures
from sdar_benchmarks.throughput.generation import random_model

__all__ = ["measure"]

_ROWS, _MICRO, _GROUP = 32, 8, 8
_PROMPT, _RESPONSE = 265, 64
_WORDS = 800
_REPEATS = 3


def measure(figures: Figures, progress: Callable[[str], None] = lambda _: None) -> None:
    """Add the figures of the update; takes about a minute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model, tokenizer = random_model()
        rng = random.Random(0)
        equal = [_row(rng, number, _PROMPT, _RESPONSE) for number in range(_ROWS)]
        mixed = [
            _row(rng, number, rng.randint(_PROMPT // 4, 2 * _PROMPT), rng.randint(_RESPONSE // 4, 2 * _RESPONSE))
            for number in range(_ROWS)
        ]
        for what, rows in (
            (f"rows of {_PROMPT} + {_RESPONSE} tokens", equal),
            (f"rows of {_PROMPT // 4} to {2 * _PROMPT} + {_RESPONSE // 4} to {2 * _RESPONSE}", mixed),
        ):
            progress(f"update beside TRL, {what}")
            with tempfile.TemporaryDirectory() as folder:
                theirs = _trl_step(model, tokenizer, rows, folder)
                seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
                for _ in range(_REPEATS):
                    seconds["ours"].append(_our_seconds(model, rows))
                    started = time.process_time()
                    theirs()
                    seconds["theirs"].append(time.process_time() - started)
            tokens = sum(len(row.prompt_ids) + len(row.response_ids) for row in rows)
            ours, others = (tokens / median(found) for found in seconds.values())
            figures.add(f"update, {what}", ours, "tokens/CPU s")
            figures.add(f"TRL's update, {what}", others, "tokens/CPU s")
            figures.add(f"update over TRL's, {what}", ours / others, "x")
    finally:
        torch.set_num_threads(threads)


def _row(rng: random.Random, number: int, prompt: int, response: int) -> Row:
    ids = tuple(rng.randrange(2, _WORDS) for _ in range(prompt + response))
    return Row(ids[:prompt], ids[prompt:], None, f"{number // _GROUP}", f"{number}", 0, float(number % 2))


def _our_seconds(model: Any, rows: Sequence[Row]) -> float:
    """Return the CPU seconds of an update."""
    width = max(len(row.prompt_ids) for row in rows) + max(len(row.response_ids) for row in rows)
    settings = LearnerSettings(max_tokens=_MICRO * width, gradient_parts_every=0)
    learner = Learner(copy.deepcopy(model), make_algorithm("grpo", suite="alfworld", kl_coef=0.0), settings, pad_id=0)
    phases = Phases(learner.device, time.process_time)
    learner.learn(rows, 1, phases=phases)
    return phases.seconds["update"]


def _trl_step(model: Any, tokenizer: Any, rows: Sequence[Row], folder: str) -> Callable[[], None]:
    """Return an update by TRL."""
    import datasets  # noqa: PLC0415  (of the extra peer)
    import trl  # noqa: PLC0415

    with warnings.catch_warnings():
        # Newer versions of transformers have another name for gradient_checkpointing, older ones have not.
        warnings.simplefilter("ignore", FutureWarning)
        arguments = trl.GRPOConfig(
            output_dir=folder,
            use_cpu=True,
            report_to="none",
            per_device_train_batch_size=_MICRO,
            gradient_accumulation_steps=_ROWS // _MICRO,
            num_generations=_GROUP,
            max_completion_length=2 * _RESPONSE,
            beta=0.0,
            bf16=False,
            gradient_checkpointing=False,
        )
    trainer = trl.GRPOTrainer(
        model=copy.deepcopy(model),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=arguments,
        train_dataset=datasets.Dataset.from_dict({"prompt": ["w2 w3"] * _GROUP}),
        processing_class=tokenizer,
    )
    # What its training loop sets.
    trainer.current_gradient_accumulation_steps = _ROWS // _MICRO
    trained = trainer.model.train()
    optimizer = torch.optim.AdamW(trained.parameters(), lr=1e-6)
    prompt = max(len(row.prompt_ids) for row in rows)
    response = max(len(row.response_ids) for row in rows)
    tokens = torch.tensor(sum(len(row.response_ids) for row in rows))

    def padded(pieces: Sequence[tuple[int, ...]], width: int, *, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
        ids, mask = torch.zeros(len(pieces), width, dtype=torch.long), torch.zeros(len(pieces), width, dtype=torch.long)
        for i, piece in enumerate(pieces):
            place = slice(width - len(piece), width) if left else slice(0, len(piece))
            ids[i, place], mask[i, place] = torch.tensor(piece), 1
        return ids, mask

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        for start in range(0, len(rows), _MICRO):
            micro = rows[start : start + _MICRO]
            prompts, seen = padded([row.prompt_ids for row in micro], prompt, left=True)
            completions, mask = padded([row.response_ids for row in micro], response, left=False)
            inputs = {
                "prompt_ids": prompts,
                "prompt_mask": seen,
                "completion_ids": completions,
                "completion_mask": mask,
                "advantages": torch.tensor([2 * row.episode_return - 1 for row in micro]),
                "num_items_in_batch": tokens,
            }
            trainer._compute_loss(trained, inputs).backward()
        torch.nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        optimizer.step()

    return step
