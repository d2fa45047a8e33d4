"""Throughput of training: a step by phase, the cost of SDAR over GRPO, and large shapes on an accelerator.

On a CPU, a random model of about a million parameters plays embedded ALFWorld; GRPO and SDAR learn from the same rows
in alternation, so that both see the same machine. Times are CPU seconds of one thread. The rollout is shared, because
the teacher does not play.

On an accelerator, `python -m sdar_benchmarks.throughput.trainer` measures models with the shapes of Qwen2.5-0.5B and
1.5B and random weights: tokens per second of generation and update, and the model FLOP utilisation (MFU) of the update,
without what gradient checkpointing computes twice. It refuses to run without one.
"""

from __future__ import annotations

import copy
import math
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median

import torch
from rich.console import Console
from torch import nn
from transformers import Qwen2Config, Qwen2ForCausalLM

from sdar_agents.algorithms import make_algorithm
from sdar_agents.engines.policy import Request, Sampling
from sdar_agents.engines.transformers import TransformersPolicy
from sdar_agents.learner import Learner, LearnerSettings, Phases
from sdar_agents.rollout.rollout import Rollout, RolloutSettings
from sdar_agents.sft.tiny import TINY_MODELS, make_model, train_tokenizer
from sdar_agents.skill_use.prompts import SkillPrompts
from sdar_agents.types import Row, make_rows
from sdar_benchmarks.throughput.figures import Figures, peak_megabytes
from sdar_envs.errors import InvalidOption, SdarError
from sdar_envs.prompt import render_messages, style_for
from sdar_envs.registry import make_vec, tasks
from sdar_skills import Library, make_retriever

__all__ = ["PEAKS", "SHAPES", "Shape", "forward_flop", "measure", "measure_shape", "random_model", "random_rows"]

_TASKS, _GROUP, _TURNS, _NEW_TOKENS = 4, 4, 6, 32
_REPEATS = 3
_SKILLS = (1, 6)


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a model and of the rows of a step.

    Attributes:
        hidden: width of the residual stream.
        layers: number of layers.
        heads: attention heads.
        kv_heads: heads of keys and values (grouped-query attention).
        mlp: width of the feed-forward blocks.
        vocabulary: number of tokens; the head shares the embedding's weights.
        rows: rows of a step.
        prompt: tokens of a row's prompt.
        response: tokens of a row's response.
    """

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    mlp: int
    vocabulary: int = 151_936
    rows: int = 128
    prompt: int = 1024
    response: int = 128


SHAPES = {
    "0.5B": Shape(hidden=896, layers=24, heads=14, kv_heads=2, mlp=4864),
    "1.5B": Shape(hidden=1536, layers=28, heads=12, kv_heads=2, mlp=8960),
}
"""Shapes of Qwen2.5."""

PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12}
"""Dense bfloat16 FLOP per second, of the SXM versions."""


def measure(figures: Figures, progress: Callable[[str], None] = lambda _: None) -> None:
    """Add the figures of a training step on one CPU thread; takes about two minutes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        progress("making a model")
        policy = _tiny_policy()
        library = Library.load()
        games = tasks("sdar/ALFWorld-v0", split="train", limit=_TASKS)
        settings = RolloutSettings("sdar/ALFWorld-v0", {"max_steps": _TURNS}, max_new_tokens=_NEW_TOKENS)
        for count in _SKILLS:
            rollout = Rollout(settings, policy, skills=SkillPrompts(make_retriever("task_type", library), k=count))
            progress(f"rollout, {count} skills")
            started = time.process_time()
            result = rollout.collect(games, group_size=_GROUP, seed=0, step=1)
            played = time.process_time() - started
            rollout.close()
            rows = [row for trajectory in result.trajectories for row in make_rows(trajectory)]
            _measure_steps(figures, policy, rows, played=played, count=count, progress=progress)
        figures.add("peak memory of the process", peak_megabytes(), "MB")
    finally:
        torch.set_num_threads(threads)


def _measure_steps(
    figures: Figures,
    policy: TransformersPolicy,
    rows: Sequence[Row],
    *,
    played: float,
    count: int,
    progress: Callable[[str], None],
) -> None:
    """Add the figures of both methods on rows whose teacher prompts have `count` skills; `played`: rollout seconds."""
    responses = sum(len(row.response_ids) for row in rows)
    students = responses + sum(len(row.prompt_ids) for row in rows)
    teachers = responses + sum(len(row.teacher_prompt_ids or ()) for row in rows)
    spent: dict[str, list[dict[str, float]]] = {"grpo": [], "sdar": []}
    for repeat in range(_REPEATS):
        for method, steps in spent.items():
            progress(f"{count} skills, {method}, step {repeat + 1} of {_REPEATS}")
            steps.append(_learn(policy, method, rows))
    if count == _SKILLS[0]:
        figures.add("rollout: generated", responses / played, "tokens/CPU s")
        figures.add("rollout: read and generated", students / played, "tokens/CPU s")
        for phase in ("old", "reference", "update"):
            figures.add(phase, students / median(step[phase] for step in spent["sdar"]), "tokens/CPU s")
    of = f"with {count} skill{'s' if count > 1 else ''}"
    figures.add(f"teacher {of}", teachers / median(step["teacher"] for step in spent["sdar"]), "tokens/CPU s")
    figures.add(f"teacher's tokens {of}", teachers / students, "times the student's")
    learnt = {method: median(sum(step.values()) for step in steps) for method, steps in spent.items()}
    ratio = (played + learnt["sdar"]) / (played + learnt["grpo"])
    figures.add(f"SDAR's step over GRPO's {of}", 100 * (ratio - 1), "% more CPU s")


def _tiny_policy() -> TransformersPolicy:

    texts = [skill.text for skill in Library.load().select("alfworld")]
    env = make_vec("sdar/ALFWorld-v0", 1).envs[0]
    for seed in range(50):
        observation, info = env.reset(seed=seed)
        style = style_for("alfworld")
        messages = render_messages(style, info["instruction"], [], observation, info["admissible_commands"])
        texts += [message["content"] for message in messages]
    tokenizer = train_tokenizer(texts)
    shape = replace(TINY_MODELS["tiny-1m"], context_length=8192)
    return TransformersPolicy(make_model(shape, tokenizer, seed=0), tokenizer)


def _learn(policy: TransformersPolicy, method: str, rows: Sequence[Row]) -> dict[str, float]:
    """Return the CPU seconds of each phase of a learning step; every call starts from the same weights."""
    settings = LearnerSettings(mini_batches=2, max_tokens=8192, gradient_parts_every=0)
    learner = Learner(copy.deepcopy(policy.model), make_algorithm(method, suite="alfworld"), settings, pad_id=0)
    phases = Phases(learner.device, time.process_time)
    learner.learn(rows, 1, phases=phases)
    return phases.seconds


def forward_flop(shape: Shape) -> float:
    """Floating-point operations of one forward pass over the rows of a step.

    Two for each weight of a matrix and token, attention to half of the others, and the head on response tokens alone.
    """
    s = shape
    head = s.hidden // s.heads
    of_layer = 2 * s.hidden * s.hidden + 2 * s.hidden * s.kv_heads * head + 3 * s.hidden * s.mlp
    tokens = s.rows * (s.prompt + s.response)
    attention = 2 * s.layers * s.heads * head * (s.prompt + s.response)
    return tokens * (2 * s.layers * of_layer + attention) + 2.0 * s.rows * s.response * s.vocabulary * s.hidden


def measure_shape(
    figures: Figures, name: str, shape: Shape, device: str, progress: Callable[[str], None] = lambda _: None
) -> None:
    """Add the figures of generation and update of a random model in bfloat16 on a device.

    Args:
        figures: to which the figures are added.
        name: name of the shape.
        shape: sizes of the model and of the rows.
        device: such as `cuda`.
        progress: called with what is measured next.
    """
    progress(f"{name}: making the model")
    model = random_model(shape, device)
    rows = random_rows(shape)
    progress(f"{name}: generation")
    _measure_generation(figures, name, shape, model, rows)
    progress(f"{name}: update")
    _measure_update(figures, name, shape, model, rows)


def random_model(shape: Shape, device: str, dtype: torch.dtype = torch.bfloat16) -> nn.Module:
    """Return a model of a shape with random weights."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        intermediate_size=shape.mlp,
        max_position_embeddings=2 * (shape.prompt + shape.response),
        tie_word_embeddings=True,
        eos_token_id=None,
    )
    model: nn.Module = Qwen2ForCausalLM(config)
    return model.to(torch.device(device), dtype)


def random_rows(shape: Shape) -> list[Row]:
    """Return the rows of a step of random tokens, in groups of eight."""
    rng = random.Random(0)
    rows = []
    for i in range(shape.rows):
        ids = [rng.randrange(1, shape.vocabulary) for _ in range(shape.prompt + shape.response)]
        rows.append(
            Row(tuple(ids[: shape.prompt]), tuple(ids[shape.prompt :]), None, f"{i // 8}", f"{i}", 0, float(i % 2))
        )
    return rows


def _measure_generation(figures: Figures, name: str, shape: Shape, model: nn.Module, rows: Sequence[Row]) -> None:
    policy = TransformersPolicy(model, train_tokenizer(["a few words, for this model never speaks them"]))
    requests = [Request(row.prompt_ids, i) for i, row in enumerate(rows)]
    policy.generate(requests[:2], Sampling(max_new_tokens=2))
    phases = Phases(next(model.parameters()).device)
    with phases("generation"):
        answers = policy.generate(requests, Sampling(max_new_tokens=shape.response))
    generated = sum(len(answer.token_ids) for answer in answers)
    figures.add(f"{name}: generation", generated / phases.seconds["generation"], "tokens/s")


def _measure_update(figures: Figures, name: str, shape: Shape, model: nn.Module, rows: Sequence[Row]) -> None:
    device = next(model.parameters()).device
    settings = LearnerSettings(max_tokens=32_768, gradient_checkpointing=True, gradient_parts_every=0)
    learner = Learner(model, make_algorithm("grpo", suite="alfworld", kl_coef=0.0), settings, pad_id=0)
    learner.learn(rows[:8], 1)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = math.inf
    for step in (2, 3):
        phases = Phases(device)
        learner.learn(rows, step, phases=phases)
        seconds = min(seconds, phases.seconds["update"])
    figures.add(f"{name}: update", shape.rows * (shape.prompt + shape.response) / seconds, "tokens/s")
    flop = 3 * forward_flop(shape) / seconds
    figures.add(f"{name}: model FLOP of the update", flop / 1e12, "TFLOP/s")
    if device.type == "cuda":
        card = torch.cuda.get_device_name()
        peak = next((value for key, value in PEAKS.items() if key in card), None)
        if peak is not None:
            figures.add(f"{name}: share of the peak of {card}", flop / peak, "MFU")
        figures.add(f"{name}: peak memory", torch.cuda.max_memory_allocated() / 2**30, "GiB")


def main() -> int:
    """Measure all shapes on an accelerator and print the figures."""
    stderr = Console(stderr=True)
    try:
        if not torch.cuda.is_available():
            raise InvalidOption(
                "this measures models of 0.5 and 1.5 billion parameters on an NVIDIA GPU; there is none, or this torch "
                "was built without CUDA. On a CPU: sdar bench trainer."
            )
        for name, shape in SHAPES.items():
            figures = Figures("trainer")
            with stderr.status(name) as status:
                measure_shape(figures, name, shape, "cuda", status.update)
            for figure in figures:
                print(f"{figure.what:<60} {figure.value:>14,.3f} {figure.unit}")
    except SdarError as error:
        print("error:", error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
