"""Checks before a run begins that its configuration can learn: signals that are switched off, updates that are lost.

A run that cannot learn looks like any other: its metrics are written, its loss is finite. Each check names the setting.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from types import MappingProxyType

import torch
from torch import nn

from sdar_agents.algorithms import ADRS, ALGORITHMS, Algorithm
from sdar_agents.algorithms.grpo import GRPO
from sdar_agents.engines.policy import Policy
from sdar_agents.rollout.settings import RolloutSettings
from sdar_agents.training.config import TrainConfig
from sdar_envs.errors import InvalidOption, SdarError
from sdar_envs.prompt import STYLES, render_completion, resolve_style

__all__ = ["check_rounding", "lost_updates", "shortest_answer", "signal_problems"]

_FIRST_STEPS: Mapping[type, str] = MappingProxyType({ADRS: "first_step"})

_SAMPLED = 1 << 16  # weights of each tensor, which are enough for a share
_SHORT_COMMANDS = ("look", "click[x]", "answer[x]")


def signal_problems(config: TrainConfig, algorithm: Algorithm) -> list[str]:
    """Return what the settings keep a run from learning, a sentence each.

    Args:
        config: of the run.
        algorithm: its method. Only what inherits from `GRPO` is checked, and only for the parts that it inherits.

    Raises:
        InvalidOption: nothing at all can be learnt, neither from rewards nor from a teacher.
    """
    if not isinstance(algorithm, GRPO) or type(algorithm).loss is not GRPO.loss:
        return list(_other_problems(config))
    rewards = _reward_problem(config, algorithm)
    teacher = _teacher_problem(config, algorithm) if algorithm.needs_teacher else None
    adds_term = type(algorithm).distillation is not GRPO.distillation
    if rewards is not None and (teacher is not None or not adds_term):
        raise InvalidOption(f"this run can learn nothing: {'; '.join(filter(None, (rewards, teacher)))}.")
    problems = [problem for problem in (rewards, teacher) if problem is not None]
    if rewards is not None and not algorithm.pg_coef:
        problems.remove(rewards)  # so is the method: the teacher alone
    if algorithm.student_sees_skills and not _shows_skills(config):
        problems.append(f"{_hidden_skills(config)}, so the prompts show no skills: --method grpo is the same")
    return [*problems, *_other_problems(config)]


def _reward_problem(config: TrainConfig, algorithm: GRPO) -> str | None:
    """Return why nothing is learnt from rewards; None if something is."""
    if not algorithm.pg_coef:
        return "pg_coef is 0, so rewards are not used"
    is_relative = type(algorithm).advantages is GRPO.advantages
    if is_relative and config.group_size == 1 and algorithm.zero_range > 0:
        return (
            "group_size is 1, and an advantage compares the members of a group, so all are 0 and rewards teach nothing "
            "(wanted 2 or more, such as 8)"
        )
    if config.rollout.env_kwargs.get("reward_scale") == 0 and config.rollout.reward is None:
        return "rollout.env_kwargs.reward_scale is 0, so all rewards are 0"
    return None


def _teacher_problem(config: TrainConfig, algorithm: GRPO) -> str | None:
    """Return why nothing is learnt from the teacher; None if something is."""
    declared = algorithm.declarations()
    if declared.off and all(getattr(algorithm, name) == value for name, value in declared.off.items()):
        names = [name for name, value in declared.off.items() if value == 0 and not isinstance(value, bool)]
        same = next((name for name, method in ALGORITHMS.items() if method is declared.base), None)
        are = "is" if len(names) == 1 else "are"
        instead = "" if same is None else f" (--method {same} does the same in less time)"
        return f"{' and '.join(names)} {are} 0, so the teacher is asked and teaches nothing{instead}"
    first = getattr(algorithm, _FIRST_STEPS.get(type(algorithm), "distill_first_step"), 1)
    if first > config.all_steps:
        return f"the teacher's signal begins at step {first} of a run of {config.all_steps}, so it teaches nothing"
    reads_skills = not config.context.is_after_play
    if reads_skills and not _shows_skills(config) and config.learner.teacher in ("old", "live"):
        return (
            f"{_hidden_skills(config)}, so the teacher reads what the student reads and teaches nothing (set skills.k "
            "to 1 or more, or take --method grpo, which needs no teacher)"
        )
    return None


def _shows_skills(config: TrainConfig) -> bool:
    return config.skills.k > 0 and config.skills.retriever != "none"


def _hidden_skills(config: TrainConfig) -> str:
    return "skills.k is 0" if not config.skills.k else "skills.retriever is none"


def _other_problems(config: TrainConfig) -> Iterator[str]:
    learner = config.learner
    if not learner.lr:
        yield "learner.lr is 0, so the weights stay as they are"
    elif learner.warmup_steps >= config.all_steps:
        reached = learner.learning_rate(config.all_steps, config.all_steps)
        yield (
            f"learner.warmup_steps is {learner.warmup_steps} in a run of {config.all_steps} steps, so the learning "
            f"rate gets no further than {reached:.2g} of {learner.lr:g}"
        )


def shortest_answer(rollout: RolloutSettings, suite: str, policy: Policy) -> int | None:
    """Return the tokens of the shortest well-formed answer; None for a prompt style that is not known before."""
    if rollout.style is None and suite not in STYLES:
        return None
    style = STYLES[suite] if rollout.style is None else resolve_style(rollout.style)
    lengths = []
    for command in _SHORT_COMMANDS:
        with suppress(SdarError):
            answer = render_completion(style, command, "x")
            lengths.append(len(policy.encode(answer.removeprefix(rollout.prefilled or ""))))
    return min(lengths, default=None)


def check_rounding(model: nn.Module, lr: float) -> None:
    """Check that most weights are fine enough for updates of the learning rate's size.

    AdamW moves a weight by about the learning rate, whatever the gradient. A bfloat16 weight has 8 significant bits: an
    update below 1/512 of the weight is rounded away.

    Raises:
        InvalidOption: they are not.
    """
    share = lost_updates((p for p in model.parameters() if p.requires_grad), lr)
    if not lr or share <= 0.5:
        return
    raise InvalidOption(
        f"model.dtype is bfloat16 and learner.lr is {lr:g}: an update of that size leaves {share:.0%} of the weights "
        "as they are, because bfloat16 keeps 8 bits of a number. Set model.dtype to float32 (learner.autocast still "
        "computes in bfloat16)."
    )


@torch.no_grad()
def lost_updates(parameters: Iterable[torch.Tensor], size: float) -> float:
    """Return the share of weights that stay as they are when a number of that size is added or subtracted.

    Measured on up to 65,536 weights of each tensor.
    """
    lost = total = 0.0
    for parameter in parameters:
        flat = parameter.detach().flatten()
        sample = flat[:: max(1, flat.numel() // _SAMPLED)]
        if not sample.numel():
            continue
        same = ((sample + size == sample) | (sample - size == sample)).double().mean()
        lost += float(same) * flat.numel()
        total += flat.numel()
    return lost / total if total else 0.0
