"""Who scores given tokens in the learner's place: an external teacher, the engine, servers with the first weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

from torch import Tensor

from sdar_agents.algorithms import Algorithm
from sdar_agents.engines.policy import Policy
from sdar_agents.engines.servers.vllm_scorer import VllmScorer
from sdar_agents.learner import open_teacher
from sdar_agents.learner.teachers import ExternalTeacher, ScorerTeacher
from sdar_agents.parallel import World
from sdar_agents.scoring.batch import Batch, Sequences
from sdar_agents.scoring.head import TeacherView
from sdar_agents.scoring.options import ScoringOptions
from sdar_agents.settings.reader import errors_at
from sdar_agents.training.config import TrainConfig
from sdar_envs.errors import InvalidOption

__all__ = ["Scorers", "open_scorers"]

Repeat = Callable[[Callable[[], Tensor]], Tensor]


class Scorers(NamedTuple):
    """What the learner asks instead of computing it.

    Attributes:
        teacher: None for the learner itself.
        reference: None for the learner itself.
        servers: with the weights before the first step; None without `learner.reference_engine`.
    """

    teacher: ExternalTeacher | None = None
    reference: ExternalTeacher | None = None
    servers: VllmScorer | None = None

    def check(self, score: Callable[[Sequence[int]], list[float]], world: World) -> None:
        """Compare the servers with the weights before the first step. Collective.

        Args:
            score: log-probabilities of given tokens under these weights (`Learner.score_ids`).
            world: the ranks.

        Raises:
            RunStopped: they have others.
        """
        if self.servers is not None:
            servers, wanted = self.servers, score(self.servers.probe_ids())
            world.from_first(lambda: servers.check_probe(wanted))


def open_scorers(
    config: TrainConfig,
    algorithm: Algorithm,
    policy: Policy,
    tokenizer: Any,
    *,
    world: World,
    repeat: Repeat,
    opened: ExitStack,
) -> Scorers:
    """Open what scores in the learner's place.

    Args:
        config: of the run.
        algorithm: the method.
        policy: the engine of the rollouts.
        tokenizer: of the model.
        world: the ranks.
        repeat: returns what a function returns, which is called anew after servers of the engine have ended.
        opened: closes the connections.

    Raises:
        InvalidOption: a teacher cannot be loaded, or the engine scores no given tokens.
        EndpointError: a server does not answer.
    """
    settings, model = config.learner, config.model
    servers: VllmScorer | None = None
    reference: ScorerTeacher | None = None
    if settings.reference_engine:
        with errors_at("learner.reference_engine"):
            try:
                servers = VllmScorer(tokenizer, **settings.reference_engine)
            except TypeError as error:
                raise InvalidOption(f"{' '.join(str(error).split())}.") from error
        opened.callback(servers.close)
        reference = ScorerTeacher(servers, "of learner.reference_engine", world)
    teacher: ExternalTeacher | None = None
    if algorithm.needs_teacher and settings.teacher == "external":
        with errors_at("learner.teacher_model"):
            teacher = open_teacher(
                str(settings.teacher_model),
                tokenizer,
                device=model.device,
                dtype=model.dtype,
                options=settings.teacher_options,
                world=world,
            )
    elif algorithm.needs_teacher and settings.teacher_scores == "engine":
        teacher = reference if settings.teacher == "frozen" else _Engine(policy, model.engine, world, repeat)
    return Scorers(teacher, reference if algorithm.needs_reference else None, servers)


class _Engine:
    """The servers that generate, as the teacher with the weights of the rollout."""

    def __init__(self, policy: Any, name: str, world: World, repeat: Repeat) -> None:
        if not hasattr(policy, "score"):
            raise InvalidOption(
                f"learner.teacher_scores is engine, and the engine {name} scores no given tokens: set it to learner, "
                "or give the class a method score (sdar_agents.learner.Scorer)."
            )
        self._teacher = ScorerTeacher(policy, f"of the engine {name}", world)
        self._repeat = repeat

    def logprobs(self, sequences: Sequences, mask: Tensor, options: ScoringOptions, *, max_tokens: int) -> Tensor:
        """Return the log-probs `(B, L)` of the response tokens in the mask, 0 elsewhere."""
        return self._repeat(lambda: self._teacher.logprobs(sequences, mask, options, max_tokens=max_tokens))

    def view(self, batch: Batch) -> TeacherView:
        """Refuse: an engine gives log-probs of tokens.

        Raises:
            InvalidOption: always.
        """
        return self._teacher.view(batch)
