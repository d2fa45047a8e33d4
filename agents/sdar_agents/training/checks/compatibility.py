"""Checks before a run begins that its method, its context and its control fit together."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sdar_agents.algorithms import Algorithm
from sdar_agents.contexts.registry import find_context
from sdar_agents.learner.settings import LearnerSettings
from sdar_agents.scoring.options import ScoringOptions
from sdar_agents.settings.reader import errors_at
from sdar_agents.training.controls import EXTRA_STEPS, LOSS_CONTROLS
from sdar_envs.errors import InvalidOption
from sdar_skills import retriever_settings

if TYPE_CHECKING:
    from sdar_agents.training.config import TrainConfig

__all__ = [
    "check_context",
    "check_control",
    "check_history",
    "check_old_logprobs",
    "check_scores",
    "check_staleness",
    "check_views",
]


def check_context(config: TrainConfig, algorithm: Algorithm) -> None:
    """Refuse a context or a mixed rollout that nobody reads, or that cannot be made.

    Raises:
        InvalidOption: the message says why.
        UnknownName: there is no such context.
    """
    name, mixed = config.context.name, config.skills.mixed
    if mixed and not algorithm.needs_teacher:
        raise InvalidOption(
            f"skills.mixed is true, and {config.method} has no teacher that could read the other prompt: choose a "
            "method with a teacher, such as sdar."
        )
    if mixed and not config.skills.control_members:
        raise InvalidOption(
            "skills.mixed is true, and skills.control_members is 0: set how many members of a group play without "
            "skills, such as half of group_size."
        )
    if not config.context.is_after_play:
        check_views(config.method, algorithm.teacher_views, name, 1)
        return
    with errors_at("context"):
        kind = find_context(name)
    if not algorithm.needs_teacher:
        raise InvalidOption(
            f"context.name is {name}, and {config.method} has no teacher that could read it: choose a method with a "
            "teacher, such as sdar."
        )
    least = getattr(kind, "least_group", 1)
    if config.group_size < least:
        raise InvalidOption(
            f"context.name is {name}, which compares the members of a group, and group_size is {config.group_size}; "
            f"wanted {least} or more."
        )
    needs_both = getattr(kind, "needs_both_prompts", False)
    if needs_both and not mixed:
        raise InvalidOption(
            f"context.name is {name}, which needs every turn's prompt with and without skills: set skills.mixed and "
            "skills.control_members."
        )
    if mixed and not needs_both:
        raise InvalidOption(
            f"skills.mixed is true, and context.name is {name}: the teacher would read one or the other. Leave out one "
            "of them."
        )


def check_views(method: str, wanted: int, context: str, views: int) -> None:
    """Refuse a context with fewer views of a turn than a method reads; one that gives rows instead has none.

    Raises:
        InvalidOption: the message names contexts with more.
    """
    if 0 < views < wanted:
        raise InvalidOption(
            f"{method} reads {wanted} views of each turn, and the context {context} has {views}: choose one with as "
            "many, such as --context future_blanked, or --context analyst --context.options.routing both."
        )


def check_history(config: TrainConfig, algorithm: Algorithm) -> None:
    """Refuse growing chats, whose rows are whole episodes, with what is of single turns.

    Raises:
        InvalidOption: the message says why.
    """
    if config.rollout.history != "appended":
        return
    if algorithm.needs_turns:
        why = f"the method {config.method} needs a row for each turn"
    elif config.context.is_after_play:
        why = f"the context {config.context.name} is inserted into the prompts of turns"
    elif config.learner.mask_truncated:
        why = "learner.mask_truncated leaves out turns"
    else:
        return
    raise InvalidOption(
        f"rollout.history is appended, which makes an episode one row, and {why}: set rollout.history to windowed, or "
        "choose another."
    )


def check_old_logprobs(config: TrainConfig) -> None:
    """Refuse the log-probs of an engine as those of the rollout's policy where they are not exact.

    Raises:
        InvalidOption: the message says why.
    """
    if config.learner.old != "sampler":
        return
    model = config.model
    if model.engine != "transformers":
        why = f"the engine is {model.engine}, whose log-probs are its own"
    elif model.dtype == "bfloat16" or model.generation_dtype == "bfloat16":
        why = "the rollout is in bfloat16 (model.dtype, model.generation_dtype)"
    elif config.casts_generation:
        why = "the rollout is under autocast: set model.generation_autocast to false"
    else:
        return
    raise InvalidOption(
        f"learner.old is sampler, which needs log-probs as exact as the trainer's, and {why}. Otherwise, wanted old: "
        "trainer."
    )


def check_scores(config: TrainConfig, algorithm: Algorithm) -> None:
    """Refuse scores of servers that nobody reads, or that the servers cannot give.

    Raises:
        InvalidOption: the message says why.
    """
    settings, temperature = config.learner, config.rollout.temperature
    asks = settings.teacher_scores == "engine"
    is_frozen = asks and settings.teacher == "frozen"
    if asks and not algorithm.needs_teacher:
        raise InvalidOption(f"learner.teacher_scores is engine, and {config.method} has no teacher: leave it out.")
    if asks and not is_frozen and config.model.engine == "transformers":
        raise InvalidOption(
            "learner.teacher_scores is engine, and model.engine is transformers, which scores as the learner does: "
            "wanted the engine vllm, or teacher_scores learner."
        )
    if asks and algorithm.scoring_options(ScoringOptions()).divergence is not None:
        raise InvalidOption(
            f"learner.teacher_scores is engine, which gives log-probs of tokens, and {config.method} compares whole "
            "distributions: set it to learner, or take a divergence of sampled tokens."
        )
    if settings.reference_engine and not (algorithm.needs_reference or is_frozen):
        raise InvalidOption(
            f"learner.reference_engine names servers, and {config.method} has neither a reference nor a frozen teacher "
            "that they score: leave it out."
        )
    asks_vllm = bool(settings.reference_engine) or (asks and config.model.engine == "vllm")
    if asks_vllm and temperature != 1.0:
        raise InvalidOption(
            f"rollout.temperature is {temperature:g}, and vLLM scores given tokens at temperature 1 only: leave out "
            "learner.teacher_scores and learner.reference_engine."
        )


def check_staleness(config: TrainConfig, algorithm: Algorithm) -> None:
    """Refuse a rollout beside the learner where it cannot be played, kept or corrected for.

    Raises:
        InvalidOption: the message says why.
    """
    if not config.max_staleness:
        return
    if config.model.engine == "transformers":
        why = "the engine transformers generates in the learner's process: set model.engine to vllm"
    elif config.context.is_after_play:
        why = f"the context {config.context.name} needs prompts in parts, which checkpoints do not hold"
    elif config.learner.teacher_scores == "engine":
        why = "learner.teacher_scores is engine, whose servers may end while both need them: set it to learner"
    elif getattr(algorithm, "sampler_cap", None) is None:
        why = f"{config.method} does not correct for other weights: set algorithm.sampler_cap, such as 2"
    else:
        return
    raise InvalidOption(f"max_staleness is {config.max_staleness}, and {why}. Otherwise, wanted max_staleness 0.")


def check_control(config: TrainConfig, algorithm: Algorithm) -> None:
    """Refuse a control that would change nothing, or cannot be made.

    Raises:
        InvalidOption: the message says why.
        UnknownName: there is no such control.
    """
    control = config.parsed_control
    if control is None or control.name == EXTRA_STEPS:
        return
    if control.name in LOSS_CONTROLS and not algorithm.needs_teacher:
        raise InvalidOption(
            f"control is {config.control}, and {config.method} has no teacher: it would change nothing."
        )
    if control.name in LOSS_CONTROLS:
        given = config.learner.teacher_control
        if given not in ("none", control.name):
            raise InvalidOption(
                f"control is {control.name} and learner.teacher_control is {given}: leave out one of them."
            )
        with errors_at("learner", LearnerSettings):
            replace(config.learner, teacher_control=config.loss_control or "none")
        return
    if not (algorithm.needs_teacher or algorithm.student_sees_skills):
        raise InvalidOption(
            f"control is {config.control}, and {config.method} reads no context: it would change nothing."
        )
    is_views = config.context.is_after_play and not config.skills.mixed
    if is_views and control.name == "wrong-skills" and config.tasks_per_step < 2:
        raise InvalidOption(
            "control is wrong-skills, which takes the context of another task of the step, and tasks_per_step is 1; "
            "wanted 2 or more."
        )
    if not is_views and "statistics" in retriever_settings(config.skills.retriever):
        raise InvalidOption(
            f"control is {config.control}, and the strategy {config.skills.retriever} learns from the skills that were "
            "shown, which would be others: choose another skills.retriever, such as task_type."
        )
