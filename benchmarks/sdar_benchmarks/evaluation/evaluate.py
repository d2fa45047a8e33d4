"""Evaluation: an agent plays every task of the given panels, once per seed; results are written as episodes finish.

Each episode is an asyncio task of its own; steps of environments take microseconds and run in between, or in threads
where they wait for a server or a disk (`TextEnv.blocks_on_io`). The seed of an episode is derived from the run's seed
and the task id alone, so neither order nor concurrency changes an episode. An error of the agent, the endpoint or the
environment is recorded as the episode's result, and the episode is tried again after all others. The run stops early
only if many episodes in a row end in errors.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sdar_agents import AgentPool
from sdar_agents.settings.checks import check_value
from sdar_benchmarks.analysis.faults import adaptation_lines, fault_lines
from sdar_benchmarks.analysis.summary import RunSummary, summarize_run
from sdar_benchmarks.analysis.tables import report_markdown
from sdar_benchmarks.evaluation.episodes import Limits, play_episode
from sdar_benchmarks.evaluation.panels import Panel, PanelSpec
from sdar_benchmarks.records.provenance import now, platform_facts, revision, versions
from sdar_benchmarks.records.runs import CONFIG, FORMAT, Episode, EpisodeKey, RunWriter, final_episodes, read_config
from sdar_envs import Task
from sdar_envs.core import is_integer
from sdar_envs.errors import InvalidOption, RunStopped, SdarError
from sdar_envs.rng import derive_seed
from sdar_envs.secrets import check_no_secrets, redact

__all__ = ["Evaluation", "Plan", "Tally", "evaluate", "evaluate_async"]

_FEWEST_ERRORS_TO_STOP = 8
# Ends at which the agent's last call returned, so that it can play again.
_AGENT_IS_SOUND = frozenset({"terminated", "step_limit", "token_limit", "env_error"})


@dataclass(frozen=True, slots=True)
class Plan:
    """Specification of an evaluation.

    Attributes:
        panels: what to play; each split of an environment once.
        seeds: each task is played once with each seed.
        limits: limits of an episode.
        concurrency: episodes in flight; None for the agent's default.
        command: the command line, for the record.

    Raises:
        InvalidOption: something is out of range.
    """

    panels: Sequence[PanelSpec]
    seeds: Sequence[int] = (0,)
    limits: Limits = field(default_factory=Limits)
    concurrency: int | None = None
    command: str = ""

    def __post_init__(self) -> None:
        seeds = list(self.seeds)
        if not seeds or len(set(seeds)) != len(seeds) or not all(is_integer(seed) and seed >= 0 for seed in seeds):
            raise InvalidOption(f"the seeds are {seeds!r}; wanted different numbers from 0, at least one.")
        if self.concurrency is not None:
            check_value("concurrency", self.concurrency, int, low=1)
        names = [(panel.env_id, panel.split) for panel in self.panels]
        if not names or len(set(names)) != len(names):
            raise InvalidOption(f"the panels are {names}; wanted at least one, and each split of each once.")


@dataclass(frozen=True, slots=True)
class Tally:
    """Progress of an evaluation.

    Attributes:
        done: episodes with a result; those that ended in an error are not counted while they can be tried again.
        total: all episodes.
        successes: among those done.
        errors: attempts that ended in an error since this call of `evaluate` began.
        adaptations: what was done otherwise than asked, as in `config.json`.
    """

    done: int
    total: int
    successes: int
    errors: int
    adaptations: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Result of `evaluate`.

    Attributes:
        config: the configuration, as in `config.json`.
        episodes: the final attempt at each task and seed, in the order of panels, seeds and tasks.
        summary: the numbers.
        folder: the run folder; None if nothing was written.
        faults: sentences about what went wrong (`sdar_benchmarks.analysis.faults.fault_lines`).
    """

    config: Mapping[str, Any]
    episodes: tuple[Episode, ...]
    summary: RunSummary
    folder: Path | None
    faults: tuple[str, ...] = ()


def evaluate(
    plan: Plan,
    agents: AgentPool,
    *,
    out: Path | None = None,
    resume: bool = False,
    progress: Callable[[Tally], None] | None = None,
) -> Evaluation:
    """Evaluate an agent. In a running event loop, as in a notebook, await `evaluate_async` instead.

    Args:
        plan: what to play.
        agents: the agents, from `sdar_agents.open_agent`; closed at the end.
        out: the run folder (see `records.runs`); None writes nothing.
        resume: continue the run in that folder: play what is missing or ended in an error.
        progress: called at the beginning and after each attempt.

    Raises:
        InvalidOption: the plan or the folder cannot be used, or the agent cannot play a panel.
        UnknownName: there is no such environment, argument or split, or no scripted agent for the suite.
        RunStopped: the folder can no longer be written to, or many episodes in a row ended in errors. Finished
            episodes are in the folder, and `resume` continues from there.
        KeyboardInterrupt: likewise.
    """
    return asyncio.run(evaluate_async(plan, agents, out=out, resume=resume, progress=progress))


async def evaluate_async(
    plan: Plan,
    agents: AgentPool,
    *,
    out: Path | None = None,
    resume: bool = False,
    progress: Callable[[Tally], None] | None = None,
) -> Evaluation:
    """Evaluate an agent in a running event loop; see `evaluate`."""
    try:
        with ExitStack() as stack:
            panels = [Panel(spec) for spec in plan.panels]
            for panel in panels:
                stack.callback(panel.close)
                # Before the folder is made: an agent that cannot play a panel leaves nothing behind.
                await _try_on(panel, agents)
            if not (resume and out is not None and _is_finished(out)):
                await agents.check()
            config = _config(plan, panels, agents)
            writer = None if out is None else stack.enter_context(_open_writer(out, config, panels, agents, resume))
            run = _Run(plan, panels, agents, config, writer=writer, progress=progress)
            try:
                await run.play()
            except BaseException:
                # A full disk may also keep the summary from being written; the first error is the one to show.
                with suppress(RunStopped):
                    run.finish()
                raise
            return run.finish()
    finally:
        await agents.close()


def _config(plan: Plan, panels: Sequence[Panel], agents: AgentPool) -> dict[str, Any]:
    for panel in panels:
        check_no_secrets(panel.env_kwargs, whose="argument")
    return {
        "format": FORMAT,
        "command": redact(plan.command),
        "directory": os.getcwd(),
        "created": now(),
        "panels": [panel.to_json() for panel in panels],
        "agent": {"name": agents.name, "settings": dict(agents.settings)},
        "seeds": list(plan.seeds),
        "concurrency": plan.concurrency or agents.concurrency,
        "limits": asdict(plan.limits),
        "versions": versions(),
        "revision": revision(),
        "platform": platform_facts(),
    }


class _Run:
    """One call of `evaluate`: a new run, or the rest of one that is resumed."""

    def __init__(
        self,
        plan: Plan,
        panels: Sequence[Panel],
        agents: AgentPool,
        config: Mapping[str, Any],
        *,
        writer: RunWriter | None,
        progress: Callable[[Tally], None] | None,
    ) -> None:
        self._plan = plan
        self._panels = panels
        self._agents = agents
        self._concurrency: int = config["concurrency"]
        self._config: dict[str, Any] = writer.config if writer else {**config}
        self._adapted_before: Sequence[Mapping[str, Any]] = self._config.get("adaptations", ())
        self._attempts = list(writer.episodes) if writer else []
        self._writer = writer
        self._progress = progress
        self._total = len(plan.seeds) * sum(map(len, panels))
        self._final = {episode.key: episode for episode in final_episodes(writer.episodes if writer else ())}
        self._done = sum(episode.status == "ok" for episode in self._final.values())
        self._successes = sum(episode.is_success for episode in self._final.values())
        self._errors = 0
        self._errors_in_a_row = 0

    async def play(self) -> None:
        """Play missing episodes, then retry those that ended in an error, up to `limits.attempts` sweeps.

        Raises:
            RunStopped: the folder cannot be written to, or many episodes in a row ended in errors.
        """
        self._report()
        for sweep in range(self._plan.limits.attempts):
            if self._done == self._total:
                return
            try:
                await self._sweep()
            except BaseExceptionGroup as group:
                error = _first(group)
                if isinstance(error, RunStopped) and sweep > 0:
                    # Only episodes that failed before are left, so errors in a row do not mean that all is broken.
                    return
                if self._writer and isinstance(error, OSError):
                    raise _unwritable(self._writer, error) from error
                raise error from error.__cause__

    def finish(self) -> Evaluation:
        """Summarize the episodes so far, and write the summary if there is a folder.

        Raises:
            RunStopped: the folder cannot be written to.
        """
        config = self._config
        episodes = [self._final[key] for _, _, key in self._walk() if key in self._final]
        summary = summarize_run(config["agent"]["name"], config["panels"], len(self._plan.seeds), episodes)
        config["adaptations"] = _added(self._adapted_before, self._agents.adaptations())
        faults = fault_lines(config, self._attempts, episodes)
        if self._writer:
            numbers = {**summary.to_json(), "adaptations": config["adaptations"]}
            report = report_markdown(config, summary, [*faults, *adaptation_lines(config["adaptations"])])
            is_complete = not summary.missing and self._done == self._total
            try:
                self._writer.finish(numbers, report, now() if is_complete else None)
            except OSError as error:
                raise _unwritable(self._writer, error) from error
        folder = self._writer.folder if self._writer else None
        return Evaluation(config, tuple(episodes), summary, folder, tuple(faults))

    def _walk(self) -> Iterator[tuple[Panel, Task, EpisodeKey]]:
        for panel in self._panels:
            for seed in self._plan.seeds:
                for task in panel:
                    yield panel, task, EpisodeKey(panel.env_id, task.id, seed)

    async def _sweep(self) -> None:
        """Play each episode that has no result, or ended in an error, once."""
        free = asyncio.Semaphore(self._concurrency)

        async def play(panel: Panel, task: Task, key: EpisodeKey) -> None:
            try:
                await self._play_one(panel, task, key)
            finally:
                free.release()

        self._errors_in_a_row = 0
        async with asyncio.TaskGroup() as group:
            for panel, task, key in self._walk():
                if key not in self._final or self._final[key].status == "error":
                    # Before the task is created: a panel can have more episodes than should exist at once.
                    await free.acquire()
                    group.create_task(play(panel, task, key))

    async def _play_one(self, panel: Panel, task: Task, key: EpisodeKey) -> None:
        earlier = self._final.get(key)
        env, agent = panel.take_env(), self._agents.take()
        episode, trajectory = await play_episode(
            env,
            agent,
            task,
            env_id=panel.env_id,
            seed=key.seed,
            attempt=earlier.attempt + 1 if earlier else 1,
            limits=self._plan.limits,
        )
        if episode.stop_reason != "env_error":
            panel.give_back(env)
        if episode.stop_reason in _AGENT_IS_SOUND:
            self._agents.give_back(agent)
        if self._writer:
            self._writer.append(episode, trajectory)
        self._final[key] = episode
        self._attempts.append(episode)
        if episode.status == "ok":
            self._done += 1
            self._successes += episode.is_success
            self._errors_in_a_row = 0
        else:
            self._errors += 1
            self._errors_in_a_row += 1
        self._report()
        if self._errors_in_a_row >= max(_FEWEST_ERRORS_TO_STOP, self._concurrency):
            assert episode.error is not None
            raise RunStopped(
                f"the last {self._errors_in_a_row} episodes all ended in an error, the last in {episode.stop_reason}: "
                f"{episode.error['type']}: {episode.error['message']}"
                f"{' Fix the cause, then continue with --resume.' if self._writer else ''}"
            )

    def _report(self) -> None:
        if self._progress:
            adaptations = self._agents.adaptations()
            self._progress(Tally(self._done, self._total, self._successes, self._errors, adaptations))


async def _try_on(panel: Panel, agents: AgentPool) -> None:
    """Reset the environment and begin an episode, without playing it.

    Raises:
        InvalidOption: the agent cannot begin.
    """
    env = panel.take_env()
    task = next(iter(panel))
    seed = derive_seed(0, task.id)
    observation, info = env.reset(seed=seed, options={"task_id": task.id})
    try:
        agent = agents.take()
        await agent.reset(env, observation, info, seed)
        agents.give_back(agent)
    except SdarError:
        raise
    except Exception as error:
        raise InvalidOption(
            f"the agent {agents.name!r} cannot begin an episode of {panel.env_id}: {type(error).__name__}: {error}"
        ) from error
    panel.give_back(env)


def _is_finished(out: Path) -> bool:
    """Return whether a folder holds a run of which nothing is missing: it needs no agent."""
    return (out / CONFIG).exists() and read_config(out).get("finished") is not None


def _added(before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the adaptations of two sittings of a run together."""
    together = {each["kind"]: dict(each) for each in before}
    for each in now:
        known = together.setdefault(each["kind"], {**each, "times": 0})
        known["times"] += each["times"]
    return list(together.values())


def _open_writer(
    out: Path, config: Mapping[str, Any], panels: Sequence[Panel], agents: AgentPool, resume: bool
) -> RunWriter:
    defaults = {panel.env_id: panel.defaults for panel in panels}
    try:
        return RunWriter(out, config, resume=resume, defaults=defaults, agent_defaults=agents.defaults)
    except OSError as error:
        raise InvalidOption(f"{out} cannot be written ({error}): choose another folder.") from error


def _unwritable(writer: RunWriter, error: OSError) -> RunStopped:
    return RunStopped(
        f"{writer.folder} can no longer be written to ({error}). Finished episodes are kept: make room, then "
        "continue with --resume."
    )


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
