"""Settings of skills in prompts, and the library and retriever that they describe."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

from sdar_agents.settings.checks import absolute_paths, check_settings, path_setting, setting
from sdar_agents.settings.reader import build, errors_at, to_plain
from sdar_agents.skill_use.prompts import SkillPrompts, name_skill
from sdar_envs.errors import InvalidOption, check_choice
from sdar_envs.importing import import_named, is_import_path
from sdar_envs.search_qa.retrieval.engines.encoder import sentence_encoder
from sdar_envs.storage import absolute_arguments
from sdar_skills import Ledger, Library, Retriever, Skill, Statistics, make_retriever, retriever_settings
from sdar_skills.context import Placement
from sdar_skills.library.budget import TokenCounter
from sdar_skills.library.skill import arm_of
from sdar_skills.retrieval.controls import LeavingOut, Shuffled, Textless

__all__ = [
    "EvaluationSkills",
    "SkillSource",
    "absolute_skills",
    "controlled_retriever",
    "make_skill_retriever",
    "open_library",
    "open_skills",
    "warn_uncovered",
]

SourceT = TypeVar("SourceT", bound="SkillSource")


@dataclass(frozen=True, kw_only=True)
class SkillSource:
    """Where the skills in a prompt come from, how they are chosen, and their limits.

    Attributes:
        retriever: a strategy of `sdar_skills`, or `module:Class` of your own.
        options: keyword arguments of the retriever; `encoder` may name a model of sentence-transformers.
        library: folders of skills in addition to those of this package.
        builtin: use those of this package.
        k: how many skills at most.
        placement: where in the prompt they are inserted.
        skill_tokens: that their texts may take together; null for no limit.
        max_prompt_tokens: limit of the prompt that shows them; null is what the model's context leaves.
    """

    retriever: str = "task_type"
    options: Mapping[str, Any] = field(default_factory=dict)
    library: tuple[str, ...] = path_setting(())
    builtin: bool = True
    k: int = setting(6, low=0)
    placement: Placement = "user"
    skill_tokens: int | None = setting(None, low=1)
    max_prompt_tokens: int | None = setting(None, low=1)

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class EvaluationSkills(SkillSource):
    """Skills that an evaluated model reads.

    Attributes:
        reader: the student: in an evaluation it acts, and there is no teacher.
        ledger: file of a training run, by which `ucb`, `thompson` and `hybrid` choose.
        only: ids of skills: no others are in the library, and these are whatever their status.
        leave_out: ids of skills that are not shown where they were chosen; nothing takes their place.
        shuffled: show skills of other task types instead of those chosen, as many, drawn at random: a control.
        content: what the library held, by `id@version`, with hashes; written into the record, and not read.
    """

    reader: Literal["student"] = "student"
    ledger: str | None = path_setting(None)
    only: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    shuffled: bool = False
    content: Mapping[str, str] = field(default_factory=dict)


def absolute_skills(settings: SourceT) -> SourceT:
    """Return settings whose paths are absolute, those among the options of a retriever of one's own included."""
    settings = absolute_paths(settings)
    if not is_import_path(settings.retriever):
        return settings
    own = import_named(settings.retriever, what="a retriever")
    return replace(settings, options=absolute_arguments(own, settings.options))


def open_library(settings: SkillSource) -> Library:
    """Load the library that settings name.

    Raises:
        MissingData: a folder does not exist or has no skill.
        CorruptData: a file breaks the format, or two skills have the same id.
    """
    return Library.load(*settings.library, builtin=settings.builtin)


def warn_uncovered(library: Library, suite: str) -> None:
    """Warn of the task types of a suite for which a library has no skills of their own."""
    told = library.uncovered_words(suite)
    if told:
        warnings.warn(f"the skill library does not cover {told}", RuntimeWarning, stacklevel=3)


def make_skill_retriever(
    settings: SkillSource,
    library: Library,
    *,
    count_tokens: Callable[[str], int] | None,
    statistics: Callable[[], Statistics],
) -> Retriever:
    """Make the retriever that settings name.

    Args:
        settings: its name and options.
        library: the skills to choose from.
        count_tokens: length of a text in tokens; None where there is no tokenizer.
        statistics: returns what a bandit chooses by; called if the retriever is one.

    Raises:
        UnknownName: there is no such retriever, or it has no such option.
        InvalidOption: an option is missing, or there is a limit on tokens and no tokenizer.
    """
    options = dict(settings.options)
    known = retriever_settings(settings.retriever)
    if settings.skill_tokens is not None:
        if count_tokens is None:
            raise InvalidOption(
                f"skill_tokens is {settings.skill_tokens}, and there is no tokenizer here to count by: leave it out, "
                "and limit the number of skills by k."
            )
        options["count_tokens"] = count_tokens
    if settings.retriever == "embedding" and isinstance(options.get("encoder"), str):
        options["encoder"] = sentence_encoder(options["encoder"])
    if "statistics" in known:
        given = {"statistics": statistics(), "refresh": False}
        options |= {name: value for name, value in given.items() if name in known}
    with errors_at("skills.retriever"):
        return make_retriever(settings.retriever, library, **options)


def controlled_retriever(
    retriever: Retriever, control: str, library: Library, *, count_tokens: TokenCounter
) -> Retriever:
    """Return the retriever of a negative control, which shows as many skills as another one.

    Args:
        retriever: the one that is controlled.
        control: `wrong-skills` (of other task types; false ones where the retriever has a method `misleading`, as
            `home` has), `empty-skills` (without text) or `neutral-text`.
        library: the skills that wrong ones are drawn from.
        count_tokens: length of a text in tokens.

    Raises:
        InvalidOption: there is no such control.
    """
    check_choice("control", control, ("wrong-skills", "empty-skills", "neutral-text"))
    if control == "wrong-skills":
        if hasattr(retriever, "misleading"):
            false: Retriever = retriever.misleading()
            return false
        return Shuffled(retriever, library, count_tokens=count_tokens)
    return Textless(retriever, "empty" if control == "empty-skills" else "neutral", count_tokens=count_tokens)


def open_skills(
    given: Mapping[str, Any],
    suites: Sequence[str],
    *,
    count_tokens: Callable[[str], int] | None,
) -> tuple[SkillPrompts, dict[str, Any]]:
    """Open the skills of an evaluated model.

    Args:
        given: fields of `EvaluationSkills`.
        suites: what is played; empty names stand for any suite.
        count_tokens: as in `make_skill_retriever`.

    Returns:
        The skills for prompts, and all settings as JSON values, with the content of the library.

    Raises:
        UnknownName: there is no such setting, retriever or skill, or the library has no skills for a suite.
        InvalidOption: a value has a wrong type or is out of range.
        MissingData: a folder or the ledger does not exist.
    """
    settings = absolute_skills(build(EvaluationSkills, {**_listed(given), "content": {}}, "skills"))
    full = open_library(settings)
    library = full
    for skill_id in settings.leave_out:
        full[skill_id]  # an unknown one is an error
    if settings.only:
        library = Library(replace(full[skill_id], status="active") for skill_id in settings.only)
    elif settings.retriever != "none" and not is_import_path(settings.retriever):
        for suite in filter(None, suites):
            library.select(suite, strict=True)
            warn_uncovered(library, suite)
    retriever = make_skill_retriever(
        settings, library, count_tokens=count_tokens, statistics=lambda: _statistics(settings)
    )
    if settings.leave_out:
        retriever = LeavingOut(retriever, settings.leave_out)
    if settings.shuffled:
        retriever = Shuffled(retriever, full, count_tokens=count_tokens)
    content = _content(full if settings.shuffled else library, suites)
    prompts = SkillPrompts(
        retriever,
        reader=settings.reader,
        placement=settings.placement,
        k=settings.k,
        skill_tokens=settings.skill_tokens,
        max_prompt_tokens=settings.max_prompt_tokens,
    )
    return prompts, to_plain(replace(settings, content=content))


def _listed(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings in which a single text stands for a list of one, as the command line gives them."""
    lists = ("library", "only", "leave_out")
    return {name: [value] if name in lists and isinstance(value, str) else value for name, value in given.items()}


def _content(library: Library, suites: Sequence[str]) -> dict[str, str]:
    shown: list[Skill] = [
        skill for skill in library if skill.status == "active" and (skill.suite in suites or "" in suites)
    ]
    return {name_skill(arm_of(skill)): skill.sha256 for skill in shown}


def _statistics(settings: EvaluationSkills) -> Statistics:
    if settings.ledger is None:
        raise InvalidOption(
            f"the strategy {settings.retriever} chooses by what a training run has learnt: name its file with "
            "--skills-set ledger=RUN/ledger.sqlite."
        )
    with Ledger(settings.ledger, create=False) as ledger:
        return Statistics(ledger)
