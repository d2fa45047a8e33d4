"""Tables of summary statistics, for the terminal and for Markdown (`report.md`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sdar_agents import default_agent
from sdar_benchmarks.analysis.summary import PanelSummary, RunSummary, Summary
from sdar_envs.core import TaskSource

__all__ = [
    "TextTable",
    "data_words",
    "overview",
    "panel_means",
    "panel_tables",
    "panel_title",
    "report_markdown",
    "splits_text",
]


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table of strings. The first column holds names, the others numbers; a last row named `all` is a total."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """Return the table in Markdown."""
        lines = [self.columns, ("---", *("---:" for _ in self.columns[1:])), *self.rows]
        return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def data_words(flags: Mapping[str, Any]) -> str:
    """Return flags of the data in words, such as `title_nouns=guessed`; `the reference ones` if there are none."""
    return ", ".join(f"{name}={value}" for name, value in sorted(flags.items())) or "the reference ones"


def splits_text(source: TaskSource) -> str:
    """Return the splits of an environment with their sizes, such as `train (endless), test (500)`."""
    return ", ".join(f"{name} ({'endless' if size is None else size})" for name, size in source.splits.items())


def panel_title(config: Mapping[str, Any], panel: PanelSummary) -> str:
    """Return agent and panel in words, such as `explorer on sdar/ALFWorld-v0, split valid_unseen, seed 0`."""
    agent, seeds = config["agent"]["name"], config["seeds"]
    if agent == "default":
        agent = default_agent(panel.env_id)
    model = config["agent"]["settings"].get("model")
    name = f"{agent} ({model})" if model else agent
    numbers = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}"
    return f"{name} on {panel.env_id}, split {panel.place}, {numbers}"


def panel_tables(panel: PanelSummary) -> list[TextTable]:
    """Return a table by task type and, if there are several, one by data set; each ends in a row for all."""
    tables = [_table("task type", {**panel.task_types, "all": panel.total})]
    if len(panel.data_sets) > 1:
        tables.append(_table("data set", {**panel.data_sets, "all": panel.total}))
    return tables


def panel_means(panel: PanelSummary) -> list[str]:
    """Return mean scores, macro averages and pass@k, one line each."""
    total = panel.total
    lines = [
        f"score {total.mean_score:.3f} ({_span(total.score_interval)}), return {total.mean_return:.3f} "
        f"({_span(total.return_interval)})",
        f"mean over task types: success {panel.macro.success_rate:.1%}, score {panel.macro.mean_score:.3f}",
    ]
    if panel.data_set_macro and len(panel.data_sets) > 1:
        macro = panel.data_set_macro
        lines.append(f"mean over data sets: success {macro.success_rate:.1%}, score {macro.mean_score:.3f}")
    if total.mean_metrics:
        lines.append(", ".join(f"{name} {mean:.3f}" for name, mean in total.mean_metrics.items()))
    if total.pass_at_k:
        chances = (
            f"@{k} {100 * mean:.1f} % ({100 * low:.1f}-{100 * high:.1f})"
            for k, (mean, low, high) in total.pass_at_k.items()
        )
        lines.append(f"pass{', pass'.join(chances)}")
    return lines


def overview(summaries: Iterable[tuple[str, RunSummary]]) -> TextTable:
    """Return a table with a row for each panel of each run.

    Args:
        summaries: name and statistics of each run.
    """
    rows = {f"{name}, {panel.env_id} {panel.place}": panel.total for name, run in summaries for panel in run.panels}
    return _table("agent, panel", rows)


def report_markdown(config: Mapping[str, Any], summary: RunSummary, faults: Sequence[str] = ()) -> str:
    """Return the content of `report.md`: tables, macro averages, costs, and the configuration.

    Args:
        config: the run's configuration.
        summary: its statistics.
        faults: sentences about what went wrong, or otherwise than asked (`sdar_benchmarks.analysis.faults`).
    """
    parts = [f"# {config['agent']['name']}: {', '.join(panel['env_id'] for panel in config['panels'])}"]
    if summary.missing:
        parts.append(f"**Not complete**: {summary.missing} episodes are missing; `--resume` plays them.")
    if summary.total and summary.total.errors:
        parts.append(
            f"**{summary.total.errors} episodes ended in an error** and count as failures; `--resume` tries them again."
        )
    if faults:
        parts += ["## What went wrong, or otherwise than asked", "\n".join(f"- {line}" for line in faults)]
    parts += [
        f"**The data of {panel['env_id']} depart from the reference ones** ({data_words(panel['data_flags'])}): its "
        "scores do not compare with those of other data."
        for panel in config["panels"]
        if panel.get("data_flags")
    ]
    for panel in summary.panels:
        tables = [table.markdown() for table in panel_tables(panel)]
        parts += [f"## {panel_title(config, panel)}", *tables, _details(panel)]
    if summary.total and summary.macro and len(summary.panels) > 1:
        parts += [
            "## All panels",
            f"Mean over panels: success {summary.macro.success_rate:.1%}, score {summary.macro.mean_score:.3f}. "
            f"Mean over episodes: success {summary.total.success_rate:.1%}, score {summary.total.mean_score:.3f}.",
        ]
    parts += [
        "Malformed: answers of the model that did not keep the format. Cut: answers that the token limit cut. "
        "Invalid: actions that the environment did not accept. Intervals are 95 % confidence intervals, clustered by "
        "task: shares by Wilson's formula for effective trials, means of other scores by bootstrap, or by bets where "
        "there are at most 30 tasks or all are alike.",
        "## Configuration",
        _facts(config),
    ]
    return "\n\n".join(parts) + "\n"


def _table(first: str, summaries: Mapping[str, Summary]) -> TextTable:
    columns: dict[str, list[str]] = {first: list(summaries)}
    parts = list(summaries.values())
    columns["n"] = [str(part.episodes) for part in parts]
    columns["won"] = [f"{part.success_rate:.1%}" for part in parts]
    columns["95 % CI"] = ["{:.1f}-{:.1f}".format(*(100 * end for end in part.success_interval)) for part in parts]
    seeds = {max(map(int, part.pass_at_k), default=1) for part in parts}
    if seeds != {1} and len(seeds) == 1:
        k = str(seeds.pop())
        columns[f"pass@{k}"] = [f"{part.pass_at_k[k][0]:.1%}" for part in parts]
    columns["score"] = [f"{part.mean_score:.3f}" for part in parts]
    columns["steps"] = [f"{part.mean_steps:.1f}" for part in parts]
    columns["if won"] = ["-" if part.mean_steps_won is None else f"{part.mean_steps_won:.1f}" for part in parts]
    if any(part.malformed_share is not None for part in parts):
        columns["malformed"] = [_share(part.malformed_share) for part in parts]
    if any(part.truncated_share for part in parts):
        columns["cut"] = [_share(part.truncated_share) for part in parts]
    columns["invalid"] = [_share(part.invalid_share) for part in parts]
    if any(part.errors for part in parts):
        columns["errors"] = [str(part.errors) for part in parts]
    return TextTable(tuple(columns), tuple(zip(*columns.values(), strict=True)))


def _details(panel: PanelSummary) -> str:
    total, lines = panel.total, panel_means(panel)
    lines.append("ends: " + ", ".join(f"{reason} {count}" for reason, count in total.stop_reasons.items()))
    lines.append(f"seconds an episode: {total.mean_seconds:.3g}, of which the agent's {total.mean_agent_seconds:.3g}")
    if total.prompt_tokens is not None and total.completion_tokens is not None:
        cost = "" if total.cost is None else f", cost {total.cost:.4g}"
        cached = "" if total.cached_tokens is None else f" ({total.cached_tokens:,} of them cached)"
        lines.append(f"tokens read {total.prompt_tokens:,}{cached}, written {total.completion_tokens:,}{cost}")
    return "\n".join(f"- {line}" for line in lines)


def _facts(config: Mapping[str, Any]) -> str:
    panels: Sequence[Mapping[str, Any]] = config["panels"]
    facts = [("command", f"`{config['command']}`")] if config["command"] else []
    facts += [(panel["env_id"], f"{panel['tasks']} tasks, fingerprint {panel['fingerprint']}") for panel in panels]
    for title, values in (
        ("settings", config["agent"]["settings"]),
        ("limits", {name: value for name, value in config["limits"].items() if value is not None}),
        ("versions", config["versions"]),
        ("machine", config["platform"]),
    ):
        if values:
            facts.append((title, ", ".join(f"{name} {value}" for name, value in values.items())))
    facts += [("revision", config["revision"] or "unknown"), ("started", config["created"])]
    facts += [("resumed", resumed["at"]) for resumed in config.get("resumed", [])]
    return "\n".join(f"- {name}: {value}" for name, value in facts)


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _span(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.3f}-{interval[1]:.3f}"
