"""Skills of a training run: retriever, ledger of shown skills with rewards, statistics for bandit retrievers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from sdar_agents.algorithms import Algorithm
from sdar_agents.contexts.controls import ContextControl
from sdar_agents.rollout.rollout import RolloutResult
from sdar_agents.rollout.skill_showings import skill_showings
from sdar_agents.skill_use.prompts import Reader, SkillPrompts
from sdar_agents.skill_use.settings import controlled_retriever, make_skill_retriever, open_library, warn_uncovered
from sdar_agents.training.config import SkillSettings
from sdar_envs.errors import InvalidOption, UnknownName
from sdar_envs.importing import is_import_path
from sdar_skills import Ledger, Library, Statistics, retriever_settings
from sdar_skills.evidence.ledger import Position

__all__ = ["RunSkills"]


class RunSkills:
    """Retriever, ledger and statistics of a run.

    Args:
        settings: see `SkillSettings`.
        algorithm: decides who reads skills, if anybody.
        is_context: whether the library is the teacher's context.
        control: what is shown instead of the chosen skills; None for nothing else.
        is_diagnostic: whether the evaluation shows skills too.
        suite: of the training tasks.
        folder: of the run, which gets `ledger.sqlite`.
        state: of the checkpoint that the run is resumed from; empty for a new run.
        count_tokens: length of a text in tokens.

    Attributes:
        run: name of the run in the ledger.
        library: the skills; none if nobody reads any.
        prompts: what is shown, in training or in the diagnostic evaluation; None if nobody reads skills, or if there
            are none for the suite.
        is_shown: whether the method shows skills to its teacher or its student.
        ledger: None unless members of a group are shown different skills.
        statistics: None unless the retriever learns from them, as bandits do.

    Raises:
        UnknownName: the method shows skills, and there are none for the suite; or there is no such retriever.
        InvalidOption: the retriever learns from comparisons, and all members of a group are shown the same.
    """

    def __init__(
        self,
        settings: SkillSettings,
        algorithm: Algorithm,
        *,
        is_context: bool,
        control: ContextControl | None,
        is_diagnostic: bool,
        suite: str,
        folder: Path,
        state: Mapping[str, Any],
        count_tokens: Callable[[str], int],
    ) -> None:
        self.settings = settings
        # Not the folder's name of today: a run that is moved keeps what its bandit has learnt.
        self.run: str = state.get("name", folder.resolve().name)
        self.prompts: SkillPrompts | None = None
        self.library: Library = Library([])
        self.is_shown = (algorithm.needs_teacher and is_context) or algorithm.student_sees_skills
        self.ledger: Ledger | None = None
        self.statistics: Statistics | None = None
        self._open = ExitStack()
        if not (self.is_shown or is_diagnostic):
            return
        library = self.library = open_library(settings)
        if not self._has_skills(library, suite):
            return
        if suite in library.suites and settings.retriever != "none":
            warn_uncovered(library, suite)
        try:
            self._open_ledger(folder, state)
            retriever = make_skill_retriever(settings, library, count_tokens=count_tokens, statistics=self._statistics)
            if self.is_shown and control is not None:
                retriever = controlled_retriever(retriever, control, library, count_tokens=count_tokens)
            reader: Reader = "student" if algorithm.student_sees_skills else "mixed" if settings.mixed else "teacher"
            self.prompts = SkillPrompts(
                retriever,
                reader=reader,
                placement=settings.placement,
                k=settings.k,
                skill_tokens=settings.skill_tokens,
                max_prompt_tokens=settings.max_prompt_tokens,
                varied=settings.varied,
                control_members=settings.control_members,
            )
        except BaseException:
            self._open.close()
            raise

    def _has_skills(self, library: Library, suite: str) -> bool:
        settings = self.settings
        if suite in library.suites or settings.retriever == "none" or is_import_path(settings.retriever):
            return True
        if self.is_shown:
            raise UnknownName(
                f"this method shows skills, and there are none for the suite {suite!r}; there are some for "
                f"{', '.join(library.suites) or 'none'}. Name a folder with {suite}/<name>/SKILL.md in skills.library, "
                "or train by a method that needs no skills: --method grpo."
            )
        return False

    def _open_ledger(self, folder: Path, state: Mapping[str, Any]) -> None:
        settings = self.settings
        compares = settings.varied or settings.control_members
        if self.is_shown and "statistics" in retriever_settings(settings.retriever) and not compares:
            raise InvalidOption(
                f"the strategy {settings.retriever} learns from members of a group that were shown different skills: "
                "set skills.varied, or skills.control_members to 1 or more."
            )
        if not (self.is_shown and compares):
            return
        if "ledger" not in state:  # what a run without a checkpoint has left
            for path in folder.glob("ledger.sqlite*"):
                path.unlink()
        self.ledger = self._open.enter_context(Ledger(folder / "ledger.sqlite"))
        if "ledger" in state:
            self.ledger.rewind(self.run, Position(*state["ledger"]))

    def _statistics(self) -> Statistics:
        # Where nobody reads skills there is nothing to learn about them: the diagnostic evaluation shows the bandit's
        # first choice.
        ledger = self.ledger or self._open.enter_context(Ledger(None))
        self.statistics = Statistics(ledger, gamma=self.settings.gamma, run=self.run)
        return self.statistics

    def refresh(self) -> None:
        """Read new ledger rows into the statistics; once per step, so that all its choices use the same."""
        if self.statistics is not None:
            self.statistics.refresh()

    def record(self, result: RolloutResult, step: int, gaps: Mapping[str, float]) -> None:
        """Append the skills shown in a step, with the rewards of their episodes, to the ledger.

        Args:
            result: of the step's rollout.
            step: of the run.
            gaps: mean gap of each episode that has a teacher, by its id, in nats per token.
        """
        if self.ledger is None:
            return
        settings = self.settings
        shown: dict[str, set[tuple[str, ...]]] = {}
        played = [trajectory for trajectory in result.trajectories if trajectory.turns]
        for trajectory in played:
            ids = tuple(skill.id for skill in result.shown.get(trajectory.episode_id, ()))
            shown.setdefault(trajectory.group_id, set()).add(ids)
        # A group whose members were all shown the same says nothing about a skill.
        telling = {
            group for group, kinds in shown.items() if len(kinds) > 1 and (() in kinds or not settings.control_members)
        }
        trajectories = [trajectory for trajectory in played if trajectory.group_id in telling]
        self.ledger.append(
            skill_showings(
                trajectories,
                result.shown,
                run=self.run,
                step=step,
                strategy=settings.retriever,
                baseline="control" if settings.control_members else "group",
                # An episode that was shown nothing has no gap.
                gaps=gaps if all(trajectory.episode_id in gaps for trajectory in trajectories) else None,
            )
        )

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs: the name of the run, the ledger's position."""
        return {"name": self.run, **({} if self.ledger is None else {"ledger": list(self.ledger.position())})}

    def close(self) -> None:
        """Close the ledger."""
        self._open.close()
