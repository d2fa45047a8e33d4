"""Summary statistics of a run: per panel, per task type, and over all episodes.

An episode that ended in an error counts as a failure, with the score it had reached: leaving it out would reward an
agent that breaks on hard tasks. `errors` says how many there are; a result worth quoting has none.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sdar_benchmarks.analysis.statistics import mean_intervals, pass_at_k, success_interval
from sdar_benchmarks.records.runs import FORMAT, Episode
from sdar_envs.errors import InvalidOption

__all__ = ["Macro", "PanelSummary", "RunSummary", "Summary", "summarize", "summarize_panel", "summarize_run"]


@dataclass(frozen=True, slots=True)
class Summary:
    """Statistics of a set of episodes. Intervals are 95 % confidence intervals, clustered by task.

    Attributes:
        episodes: how many.
        tasks: how many different ones.
        errors: episodes that ended in an error; they count as failures.
        success_rate: the share of successes, 0 to 1.
        success_interval: see `statistics.success_interval`.
        mean_score: the mean of the environment's scores.
        score_interval: see `statistics.mean_intervals`.
        mean_return: the mean sum of rewards.
        return_interval: likewise.
        pass_at_k: for k from 1 to the number of seeds: the chance that one of k attempts at a task succeeds, and its
            interval, likewise. Empty with one seed.
        mean_steps: over all episodes.
        mean_steps_won: over the successes; None if there are none.
        invalid_share: actions that the environment did not accept over all actions, 0 to 1; None if a run of format 1
            did not tell them from malformed answers.
        malformed_share: answers that did not keep the format over all answers of a model, 0 to 1; None as above, or
            if no model was asked.
        truncated_share: answers that the token limit cut over all answers of a model, 0 to 1; None if no model was
            asked, or in older runs.
        stop_reasons: how many episodes ended for each reason.
        prompt_tokens: of all episodes that counted them; None if none did.
        completion_tokens: likewise.
        cached_tokens: likewise; the part of `prompt_tokens` that a server had in its cache.
        cost: likewise, in the unit of the prices.
        mean_seconds: time for an episode.
        mean_agent_seconds: the part of it that the agent took.
        mean_metrics: the means of the environment's further scores by name; empty unless all episodes have them.
    """

    episodes: int
    tasks: int
    errors: int
    success_rate: float
    success_interval: tuple[float, float]
    mean_score: float
    score_interval: tuple[float, float]
    mean_return: float
    return_interval: tuple[float, float]
    pass_at_k: Mapping[str, tuple[float, float, float]]
    mean_steps: float
    mean_steps_won: float | None
    invalid_share: float | None
    malformed_share: float | None
    truncated_share: float | None
    stop_reasons: Mapping[str, int]
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None
    cost: float | None
    mean_seconds: float
    mean_agent_seconds: float
    mean_metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Macro:
    """Macro averages: each group (a task type, a data set, a panel) counts the same, whatever its size."""

    success_rate: float
    mean_score: float


@dataclass(frozen=True, slots=True)
class PanelSummary:
    """Statistics of one panel of a run.

    Attributes:
        env_id: the environment.
        split: the split.
        total: all episodes; in the means, each episode counts the same.
        task_types: the same for each task type, sorted by name.
        macro: the mean over task types.
        data_sets: the same for each data set, sorted by name, if the tasks name some.
        data_set_macro: the mean over data sets; None if there are none.
        name: what tables call the tasks beside the split, such as `invented`; empty if the split says it all.
    """

    env_id: str
    split: str
    total: Summary
    task_types: Mapping[str, Summary]
    macro: Macro
    data_sets: Mapping[str, Summary]
    data_set_macro: Macro | None
    name: str = ""

    @property
    def place(self) -> str:
        """Name and split, such as `invented/test`, or the split alone."""
        return f"{self.name}/{self.split}" if self.name else self.split


@dataclass(frozen=True, slots=True)
class RunSummary:
    """Statistics of a whole run.

    Attributes:
        agent: name of the agent.
        panels: in the order of the run; those without episodes are left out.
        total: all episodes of all panels; None if there are none.
        macro: the mean over panels; None if there are none.
        missing: episodes that were not played, or not yet.
    """

    agent: str
    panels: tuple[PanelSummary, ...]
    total: Summary | None
    macro: Macro | None
    missing: int

    def to_json(self) -> dict[str, Any]:
        """Return the summary as a dictionary of JSON values."""
        return {"format": FORMAT, **asdict(self)}


def summarize(episodes: Iterable[Episode]) -> Summary:
    """Compute the statistics of episodes, one for each task and seed.

    Raises:
        InvalidOption: there is no episode.
    """
    rows = list(episodes)
    if not rows:
        raise InvalidOption("there is no episode to summarize.")
    names = [f"{row.env_id} {row.task_id}" for row in rows]
    success = np.array([row.is_success for row in rows])
    score, returns = (np.array([getattr(row, name) for row in rows]) for name in ("score", "episode_return"))
    score_interval, return_interval = mean_intervals(np.column_stack([score, returns]), names).tolist()
    steps = sum(row.steps for row in rows)
    won = [row.steps for row in rows if row.is_success]
    return Summary(
        episodes=len(rows),
        tasks=len(set(names)),
        errors=sum(row.status == "error" for row in rows),
        success_rate=float(success.mean()),
        success_interval=success_interval(success, names),
        mean_score=float(score.mean()),
        score_interval=tuple(score_interval),
        mean_return=float(returns.mean()),
        return_interval=tuple(return_interval),
        pass_at_k=_pass_at_k(rows, names),
        mean_steps=steps / len(rows),
        mean_steps_won=sum(won) / len(won) if won else None,
        invalid_share=_share_of_steps(rows, [row.invalid_actions for row in rows]),
        malformed_share=_malformed_share(rows),
        truncated_share=_answers_share(rows, [row.truncated_answers for row in rows]),
        stop_reasons=dict(sorted(Counter(row.stop_reason for row in rows).items())),
        prompt_tokens=_total([row.prompt_tokens for row in rows]),
        completion_tokens=_total([row.completion_tokens for row in rows]),
        cached_tokens=_total([row.cached_tokens for row in rows]),
        cost=_total([row.cost for row in rows]),
        mean_seconds=sum(row.seconds for row in rows) / len(rows),
        mean_agent_seconds=sum(row.agent_seconds for row in rows) / len(rows),
        mean_metrics=_mean_metrics(rows),
    )


def summarize_run(
    agent: str, panels: Sequence[Mapping[str, Any]], seeds: int, episodes: Iterable[Episode]
) -> RunSummary:
    """Compute the statistics of a run.

    Args:
        agent: name of the agent.
        panels: as in the run's configuration; `env_id`, `split`, `name` and `tasks` are read.
        seeds: number of seeds.
        episodes: the final attempts.
    """
    rows = list(episodes)
    wanted = seeds * sum(panel["tasks"] for panel in panels)
    parts = []
    for panel in panels:
        here = [row for row in rows if (row.env_id, row.split) == (panel["env_id"], panel["split"])]
        if here:
            parts.append(summarize_panel(panel["env_id"], panel["split"], here, name=panel.get("name", "")))
    return RunSummary(
        agent=agent,
        panels=tuple(parts),
        # With one panel its statistics are the run's: computed once.
        total=None if not parts else parts[0].total if len(parts) == 1 else summarize(rows),
        macro=_macro([part.total for part in parts]) if parts else None,
        missing=wanted - len(rows),
    )


def summarize_panel(env_id: str, split: str, rows: Sequence[Episode], *, name: str = "") -> PanelSummary:
    """Compute the statistics of the final episodes of one panel.

    Raises:
        InvalidOption: there is no episode.
    """
    task_types = _grouped(rows, lambda row: row.task_type)
    data_sets = _grouped([row for row in rows if row.data_set], lambda row: row.data_set or "")
    return PanelSummary(
        env_id=env_id,
        split=split,
        total=summarize(rows),
        task_types=task_types,
        macro=_macro(task_types.values()),
        data_sets=data_sets,
        data_set_macro=_macro(data_sets.values()) if data_sets else None,
        name=name,
    )


def _malformed_share(rows: Sequence[Episode]) -> float | None:
    if any(row.invalid_actions is None for row in rows):
        return None
    return _answers_share(rows, [row.malformed_answers for row in rows])


def _answers_share(rows: Sequence[Episode], counts: Sequence[int | None]) -> float | None:
    """Return the share of the answers that are counted, over the episodes that counted them."""
    asked = [(row, count) for row, count in zip(rows, counts, strict=True) if count is not None]
    return _share_of_steps([row for row, _ in asked], [count for _, count in asked]) if asked else None


def _share_of_steps(rows: Sequence[Episode], counts: Sequence[int | None]) -> float | None:
    known = [count for count in counts if count is not None]
    return sum(known) / max(sum(row.steps for row in rows), 1) if len(known) == len(counts) else None


def _grouped(rows: Iterable[Episode], name: Callable[[Episode], str]) -> dict[str, Summary]:
    groups: dict[str, list[Episode]] = defaultdict(list)
    for row in rows:
        groups[name(row)].append(row)
    return {group: summarize(groups[group]) for group in sorted(groups)}


def _macro(summaries: Iterable[Summary]) -> Macro:
    parts = list(summaries)
    return Macro(
        success_rate=sum(part.success_rate for part in parts) / len(parts),
        mean_score=sum(part.mean_score for part in parts) / len(parts),
    )


def _pass_at_k(rows: Sequence[Episode], names: Sequence[str]) -> dict[str, tuple[float, float, float]]:
    attempts = Counter(names)
    successes = Counter(name for name, row in zip(names, rows, strict=True) if row.is_success)
    n = list(attempts.values())
    c = [successes[name] for name in attempts]
    seeds = min(n)
    if max(n) == 1:
        return {}
    estimates = np.column_stack([pass_at_k(n, c, k) for k in range(1, seeds + 1)])
    intervals = mean_intervals(estimates, list(attempts))
    means = estimates.mean(axis=0)
    return {
        str(k): (float(mean), float(low), float(high))
        for k, (mean, (low, high)) in enumerate(zip(means, intervals, strict=True), 1)
    }


def _mean_metrics(rows: Sequence[Episode]) -> dict[str, float]:
    # An episode that failed at its beginning has no scores: they count as 0.
    scores = [row.metrics if row.status == "ok" else row.metrics or {} for row in rows]
    known = [score for score in scores if score is not None]
    if len(known) < len(rows):
        return {}
    names = dict.fromkeys(name for score in known for name in score)
    return {name: sum(score.get(name, 0.0) for score in known) / len(rows) for name in names}


def _total(counts: Sequence[Any]) -> Any:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
