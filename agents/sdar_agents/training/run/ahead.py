"""The rollout of the next step, played in a thread while the learner takes the present one (`max_staleness: 1`).

The rollout of step k + 1 begins when that of step k is there, with the weights after step k - 1, and the learner waits
for it at the end of step k. So it depends on the seed, the step and these weights alone, whatever is the faster of the
two, and nothing but the learner runs beside it: the evaluation, the ledger and the checkpoint come behind. A checkpoint
holds its trajectories, so a resumed run goes on from the same.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sdar_agents.engines import Policy
from sdar_agents.rollout.recording import trajectory_from_row, trajectory_row
from sdar_agents.rollout.rollout import RolloutResult
from sdar_agents.settings.reader import to_plain
from sdar_agents.training.config import TrainConfig
from sdar_agents.training.engine_weights import WeightReceiver
from sdar_envs.errors import InvalidOption, RunStopped
from sdar_envs.files.json_text import parse_json
from sdar_skills import Skill

__all__ = ["SECONDS", "RolloutAhead", "check_versions", "rollout_ahead"]

SECONDS = "time/rollout_ahead"
"""The metric of a rollout that was played ahead: how long it took, in seconds."""

Play = Callable[[int, Callable[[int, int], object]], RolloutResult]


class RolloutAhead:
    """The rollout that is played ahead, one at a time.

    Args:
        play: plays the rollout of a step; called in a thread, with the step and a function that it calls after each
            turn of an episode.
    """

    def __init__(self, play: Play) -> None:
        self._play = play
        self._step = 0
        self._thread: threading.Thread | None = None
        self._result: RolloutResult | None = None
        self._failure: BaseException | None = None
        self._is_closed = False

    def begin(self, step: int) -> None:
        """Begin the rollout of a step."""
        self._step, self._result, self._failure = step, None, None

        def target() -> None:
            started = time.perf_counter()
            try:
                result = self._play(step, self._go_on)
                self._result = replace(result, metrics={**result.metrics, SECONDS: time.perf_counter() - started})
            except BaseException as error:
                self._failure = error

        # No obstacle to the end of the process, after a second interrupt.
        self._thread = threading.Thread(target=target, daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait for the rollout that has begun, if one has; raise what it has raised."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def take(self, step: int) -> RolloutResult | None:
        """Return the rollout of a step; None if it was not played ahead."""
        result, self._result = self._result, None
        return result if self._step == step else None

    def close(self) -> None:
        """Give up the rollout that is being played, at its next turn."""
        self._is_closed = True
        if self._thread is not None:
            self._thread.join()

    def _go_on(self, done: int, of: int) -> None:
        if self._is_closed:
            raise RunStopped("the run has ended before the rollout of its next step.")

    # -- checkpoints ------------------------------------------------------------------------

    def state(self) -> Tensor | None:
        """Return the rollout that waits to be taken, as JSON text in a tensor; None if none does."""
        if self._result is None:
            return None
        skills = list({id(skill): skill for shown in self._result.shown.values() for skill in shown}.values())
        numbers = {id(skill): number for number, skill in enumerate(skills)}
        state = {
            "step": self._step,
            "trajectories": [trajectory_row(trajectory) for trajectory in self._result.trajectories],
            "metrics": dict(self._result.metrics),
            "skills": [to_plain(skill) for skill in skills],
            "shown": {
                episode: [numbers[id(skill)] for skill in shown] for episode, shown in self._result.shown.items()
            },
        }
        return torch.frombuffer(bytearray(json.dumps(state).encode()), dtype=torch.uint8)

    def load_state(self, state: Tensor | None) -> None:
        """Take over what `state` returned."""
        if state is None:
            return
        fields: dict[str, Any] = parse_json(state.numpy().tobytes())
        skills = [Skill(**skill) for skill in fields["skills"]]
        self._step = fields["step"]
        self._result = RolloutResult(
            trajectories=tuple(map(trajectory_from_row, fields["trajectories"])),
            metrics=fields["metrics"],
            shown={episode: tuple(skills[i] for i in numbers) for episode, numbers in fields["shown"].items()},
        )


def rollout_ahead(config: TrainConfig, policy: Policy, play: Play) -> RolloutAhead | None:
    """Return what plays rollouts ahead; None if they may not be stale.

    Raises:
        InvalidOption: the engine generates with the weights that are trained.
    """
    if not config.max_staleness:
        return None
    if not isinstance(policy, WeightReceiver):
        raise InvalidOption(
            f"max_staleness is {config.max_staleness}, and the engine {config.model.engine} has no weights of its own: "
            "give it a method load_weights, or set max_staleness to 0."
        )
    return RolloutAhead(play)


def check_versions(result: RolloutResult, step: int, max_staleness: int) -> dict[str, float]:
    """Check that the episodes of a step were sampled from weights that are new enough.

    Args:
        result: of the step's rollout.
        step: of the run, from 1.
        max_staleness: by how many steps they may be behind.

    Returns:
        The metric `rollout/staleness`: by how many they are; none if they may not be.

    Raises:
        RunStopped: by more, or they are of a step that has not been.
    """
    newest = step - 1
    versions = {turn.completion.version for trajectory in result.trajectories for turn in trajectory.turns}
    found = {version for version in versions if version is not None}
    others = found - set(range(newest - max_staleness, newest + 1))
    if others:
        raise RunStopped(
            f"the engine has sampled from the weights of step {others.pop()}, wanted those of step {newest}: another "
            "run uses the same servers. Give each run its own."
        )
    return {"rollout/staleness": float(newest - min(found, default=newest))} if max_staleness else {}
