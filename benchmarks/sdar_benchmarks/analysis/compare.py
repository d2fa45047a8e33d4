"""Paired comparison of two runs, over the episodes with the same task and seed, with intervals and tests."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sdar_benchmarks.analysis.statistics import FlipTest, mean_intervals, sign_flip_test
from sdar_benchmarks.analysis.tables import TextTable, data_words
from sdar_benchmarks.records.runs import EPISODES, Episode, EpisodeKey, final_episodes, read_config, read_episodes
from sdar_benchmarks.records.schema import LeftOut
from sdar_envs.errors import InvalidOption

__all__ = [
    "Comparison",
    "Difference",
    "PlayedTask",
    "common_pairs",
    "compare",
    "compare_runs",
    "difference_table",
    "paired_difference",
]

_NAMED = 5


class PlayedTask(Protocol):
    """What a paired difference needs of an episode."""

    @property
    def env_id(self) -> str:
        """The environment."""
        ...

    @property
    def task_id(self) -> str:
        """The task."""
        ...

    @property
    def is_success(self) -> bool:
        """Whether the task was solved."""
        ...

    @property
    def score(self) -> float:
        """The score at the end."""
        ...


@dataclass(frozen=True, slots=True)
class Difference:
    """Paired difference of two runs in one measure, over the episodes that both have.

    Attributes:
        group: the environment, or `all`.
        measure: `success` or `score`.
        episodes: pairs.
        tasks: different tasks among them.
        mean_a: of the first run.
        mean_b: of the second run.
        difference: `mean_b - mean_a`.
        interval: 95 % confidence interval, see `statistics.mean_intervals`.
        test: sign-flip test of no difference, whole tasks flipped.
    """

    group: str
    measure: str
    episodes: int
    tasks: int
    mean_a: float
    mean_b: float
    difference: float
    interval: tuple[float, float]
    test: FlipTest


@dataclass(frozen=True, slots=True)
class Comparison:
    """Result of `compare`.

    Attributes:
        differences: per environment, then over all if there are several.
        warnings: differences between the runs other than their agents, to be read before the numbers.
    """

    differences: tuple[Difference, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as a dictionary of JSON values."""
        return asdict(self)


def compare_runs(folder_a: Path, folder_b: Path) -> Comparison:
    """Compare two run folders. Rows that cannot be read or do not fit are left out, with a warning.

    Raises:
        MissingData: one is no run.
        CorruptData: the configuration of one is damaged, or something else is in the place of a file.
        InvalidOption: one is of another format, they have no task and seed in common, or they were played on data that
            do not compare.
    """
    config_a, config_b = read_config(folder_a), read_config(folder_b)
    left_out_a, left_out_b = LeftOut(f"{EPISODES} of the first run"), LeftOut(f"{EPISODES} of the second run")
    comparison = compare(
        final_episodes(read_episodes(folder_a, left_out_a)), final_episodes(read_episodes(folder_b, left_out_b))
    )
    left_out = [sentence for rows in (left_out_a, left_out_b) if (sentence := rows.sentence())]
    warnings = (*left_out, *_config_warnings(config_a, config_b), *comparison.warnings)
    return Comparison(comparison.differences, warnings)


def compare(episodes_a: Sequence[Episode], episodes_b: Sequence[Episode]) -> Comparison:
    """Compare the final episodes of two runs.

    Raises:
        InvalidOption: they have no task and seed in common, or were played on data that do not compare.
    """
    a = {episode.key: episode for episode in episodes_a}
    b = {episode.key: episode for episode in episodes_b}
    groups = common_pairs(a, b)
    if not groups:
        raise InvalidOption(
            f"the runs have no task and seed in common ({len(a)} and {len(b)} episodes): compare runs of the same "
            "environments, splits and seeds."
        )
    if len(groups) > 1:
        groups["all"] = [pair for pairs in groups.values() for pair in pairs]
    differences = [
        paired_difference(group, measure, pairs) for group, pairs in groups.items() for measure in ("success", "score")
    ]
    return Comparison(tuple(differences), tuple(_panel_warnings(a, b)))


def common_pairs(
    a: Mapping[EpisodeKey, Episode], b: Mapping[EpisodeKey, Episode]
) -> dict[str, list[tuple[Episode, Episode]]]:
    """Return the pairs of episodes with the same task and seed, by environment.

    Raises:
        InvalidOption: they were played on data that do not compare.
    """
    groups: dict[str, list[tuple[Episode, Episode]]] = defaultdict(list)
    for key, episode in a.items():
        if key in b:
            groups[key.env_id].append((episode, b[key]))
    _refuse_mixed_data(groups)
    return groups


def paired_difference(
    group: str, measure: str, pairs: Sequence[tuple[PlayedTask, PlayedTask]], *, resamples: int | None = None
) -> Difference:
    """Return the difference of pairs of episodes in one measure.

    Args:
        group: what they are called.
        measure: `success` or `score`.
        pairs: at least one.
        resamples: of the interval; None for the usual number.
    """
    field = {"success": "is_success", "score": "score"}[measure]
    values = np.array([[float(getattr(episode, field)) for episode in pair] for pair in pairs])
    changes = values[:, 1] - values[:, 0]
    tasks = [f"{episode.env_id} {episode.task_id}" for episode, _ in pairs]
    names, members = np.unique(tasks, return_inverse=True)
    [(low, high)] = mean_intervals(changes, tasks, low=-1, high=1, resamples=resamples)
    mean_a, mean_b = values.mean(axis=0)
    return Difference(
        group=group,
        measure=measure,
        episodes=len(pairs),
        tasks=len(names),
        mean_a=float(mean_a),
        mean_b=float(mean_b),
        difference=float(changes.mean()),
        interval=(float(low), float(high)),
        test=sign_flip_test(np.bincount(members, weights=changes)),
    )


def _refuse_mixed_data(groups: Mapping[str, Sequence[tuple[Episode, Episode]]]) -> None:
    for env_id, pairs in groups.items():
        for one, other in pairs:
            flags_a, flags_b = one.data_flags or {}, other.data_flags or {}
            if flags_a != flags_b:
                raise InvalidOption(
                    f"the runs do not compare: the data of {env_id} are {data_words(flags_a)} in the first run and "
                    f"{data_words(flags_b)} in the second, which changes scores. Evaluate both with the same data and "
                    "the same extras installed."
                )


def _panel_warnings(a: Mapping[EpisodeKey, Episode], b: Mapping[EpisodeKey, Episode]) -> list[str]:
    warnings = []
    for name, mine, other in (("first", a, b), ("second", b, a)):
        alone = [f"{key.task_id} (seed {key.seed})" for key in mine if key not in other]
        if alone:
            more = f" and {len(alone) - _NAMED} more" if len(alone) > _NAMED else ""
            warnings.append(
                f"the panels differ: {len(alone)} episodes are in the {name} run alone and were left out: "
                f"{', '.join(alone[:_NAMED])}{more}"
            )
        errors = sum(mine[key].status == "error" for key in mine if key in other)
        if errors:
            warnings.append(f"{errors} episodes of the {name} run ended in an error; they count as failures")
    return warnings


def _config_warnings(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Return warnings about panels that both runs have but that differ in arguments or content."""
    warnings = []
    panels = {(panel["env_id"], panel["split"]): panel for panel in a["panels"]}
    for panel in b["panels"]:
        mine = panels.get((panel["env_id"], panel["split"]))
        if mine is None:
            continue
        options = {*mine["env_kwargs"], *panel["env_kwargs"]}
        changed = sorted(name for name in options if mine["env_kwargs"].get(name) != panel["env_kwargs"].get(name))
        if changed:
            warnings.append(f"the runs were made with different {', '.join(changed)} of {panel['env_id']}")
        elif mine["variant"] != panel["variant"]:
            warnings.append(
                f"{panel['env_id']} was {mine['variant']!r} in the first run, {panel['variant']!r} in the second"
            )
        elif mine["tasks"] == panel["tasks"] and mine["fingerprint"] != panel["fingerprint"]:
            warnings.append(f"the tasks of {panel['env_id']} have the same names, but not the same content")
    if a["limits"] != b["limits"]:
        warnings.append("the runs had different limits on turns, episodes or attempts")
    return warnings


def difference_table(comparison: Comparison) -> TextTable:
    """Return a table with a row for each difference."""
    rows = []
    for part in comparison.differences:
        # A p-value that underflows a float is not 0.
        p = "< 1e-300" if part.test.p < 1e-300 else f"{part.test.p:.1e}" if part.test.p < 1e-4 else f"{part.test.p:.4f}"
        if part.test.method == "monte-carlo":
            p += f" ± {part.test.standard_error:.1g}"
        low, high = part.interval
        rows.append(
            (
                f"{part.group}, {part.measure}",
                str(part.episodes),
                f"{part.mean_a:.3f}",
                f"{part.mean_b:.3f}",
                f"{part.difference:+.3f}",
                f"{low:+.3f} to {high:+.3f}",
                p,
            )
        )
    return TextTable(("panel, measure", "n", "A", "B", "B - A", "95 % CI", "p"), tuple(rows))
