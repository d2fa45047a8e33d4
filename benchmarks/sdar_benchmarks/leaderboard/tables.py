"""Markdown tables of a leaderboard, made of its records.

`render` writes `LEADERBOARD.md`, and in `README.md` a short table between the lines BEGIN and END, if it has them.
Tables are never written by hand, and `render(check=True)` fails while they differ from the records.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from sdar_agents import default_agent
from sdar_benchmarks.leaderboard.records import Record, file_name, load_records, records_folder
from sdar_envs import ENV_IDS
from sdar_envs.errors import InvalidOption, MissingData
from sdar_envs.files.locks import writing_folder
from sdar_envs.storage import write_atomic

__all__ = ["BEGIN", "END", "commands", "render"]

BEGIN, END = "<!-- leaderboard:begin -->", "<!-- leaderboard:end -->"


def render(root: Path, *, check: bool = False) -> list[Path]:
    """Make `LEADERBOARD.md` and, where `README.md` has the markers, its table from the records.

    Args:
        root: folder of the leaderboard.
        check: write nothing, and refuse files that are not current.

    Returns:
        The files that were changed.

    Raises:
        CorruptData: a file is no record.
        MissingData: the folder has no leaderboard: no records, no `LEADERBOARD.md` and no `README.md` with markers.
        InvalidOption: `README.md` has markers, but not exactly one pair; another process writes to the leaderboard; or
            with `check`, a file is not current.
    """
    if check or not root.is_dir():
        return _render(root, check=check)
    with writing_folder(root):
        return _render(root, check=False)


def _render(root: Path, *, check: bool) -> list[Path]:
    folder, leaderboard, readme = records_folder(root), root / "LEADERBOARD.md", root / "README.md"
    records = load_records(root)
    text = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    has_markers = BEGIN in text or END in text
    if not (folder.is_dir() or leaderboard.exists() or has_markers):
        raise MissingData(
            f"there is no leaderboard in {root}: `sdar leaderboard add RUN` makes its first record, in {folder}; "
            "another folder is named by --root."
        )
    wanted = {leaderboard: _leaderboard(records, folder.relative_to(root))}
    if has_markers:
        if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
            raise InvalidOption(f"{readme} wants one {BEGIN} and after it one {END}: the table goes between them.")
        before, rest = text.split(BEGIN)
        wanted[readme] = f"{before}{BEGIN}\n{_short_table(records)}\n{END}{rest.split(END)[1]}"
    stale = [
        path for path, content in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != content
    ]
    if check and stale:
        raise InvalidOption(
            f"{' and '.join(path.name for path in stale)} {'is' if len(stale) == 1 else 'are'} not what "
            f"{folder.relative_to(root).as_posix()} says: run `sdar leaderboard render` and commit the result."
        )
    for path in stale:
        write_atomic(path, wanted[path])
    return stale


def _leaderboard(records: Sequence[Record], folder: Path) -> str:
    parts = [_HEADER.format(commands=commands(), results=folder.as_posix())]
    for (env_id, split, _, _), rows in _panels(records).items():
        told = _told(rows[0])
        parts.append(f"## {_escape(env_id)}, {_escape(split)}\n")
        panel = rows[0]["panel"]
        parts.append(
            f"{panel['tasks']:,} tasks with the fingerprint `{panel['fingerprint'][:16]}`"
            + (f", variant {_code(panel['variant'])}" if panel["variant"] else "")
            + (f", {_escape(told)}" if told else "")
            + ".\n"
        )
        parts.append(_markdown_table(_COLUMNS, [_row(record) for record in rows], words=2))
        for what, field in (("task type", "task_types"), ("data set", "data_sets")):
            parts += _won_by(what, field, rows)
        parts += ["", *(_origin(record, folder) for record in rows), ""]
    if not records:
        parts.append("There are no results yet.\n")
    return "\n".join(parts).rstrip("\n") + "\n"


_HEADER = """\
# Leaderboard

Made by `sdar leaderboard render` from the records in `{results}`; do not edit it by hand.

Every row is one agent on one fixed panel of tasks, each task played once per seed. The intervals are of 95 %; their
unit is the task, because several seeds of one task are not independent. Whether two rows differ is a question for
`sdar compare RUN_A RUN_B`, which pairs the runs task by task.

Steps and tokens (read and written) are means of an episode; invalid is the share of commands that the environment could
not use.

These commands make the rows of the scripted agents (`sdar leaderboard commands` prints them):

```bash
{commands}
```

To add a row, evaluate on the whole panel with three seeds or more, from a clean checkout or an installed package; add
the run by `sdar leaderboard add RUN`, and render. Runs that are not finished, have errors, or were made from a changed
checkout or several commits are refused. Embedded and official data are different panels, and so are corpora and engines
of Search-QA, wherever they run.
"""

_COLUMNS = ("agent", "model", "won", "95 % interval", "score", "95 % interval", "steps", "invalid", "tokens", "seeds")


def commands() -> str:
    """Return the commands that make the rows of the scripted agents, on all environments of this package.

    All runs come first: a record that changes makes the checkout dirty, and what a dirty checkout plays is refused.
    """
    # Only the random agent draws: to play a task again would tell nothing about the others.
    played = {"random --seeds 3": list(ENV_IDS), "oracle": list(ENV_IDS)}
    for env_id in ENV_IDS:
        agent = default_agent(env_id)
        if agent != "random":
            played.setdefault(agent, []).append(env_id)
    folders = {agent: f"runs/leaderboard/{agent.partition(' ')[0]}" for agent in played}
    lines = [
        f"sdar eval {' '.join(env_ids)} --agent {agent} --out {folders[agent]}" for agent, env_ids in played.items()
    ]
    return "\n".join(
        [*lines, f"sdar leaderboard add --replace {' '.join(folders.values())}", "sdar leaderboard render"]
    )


def _panels(records: Iterable[Record]) -> dict[tuple[str, str, str, str], list[Record]]:
    """Return the records of each panel, the best first."""
    panels: dict[tuple[str, str, str, str], list[Record]] = {}
    for record in records:
        kwargs = json.dumps(record["env_kwargs"], sort_keys=True)
        key = (record["env_id"], record["split"], record["panel"]["fingerprint"], kwargs)
        panels.setdefault(key, []).append(record)
    return {key: sorted(panels[key], key=_rank) for key in sorted(panels)}


def _rank(record: Record) -> tuple[float, float, str, str]:
    metrics = record["metrics"]
    return -metrics["success"]["value"], -metrics["score"]["value"], record["agent"], file_name(record)


def _told(record: Record) -> str:
    """Return the limit and the arguments of the panel that are not the defaults."""
    words = [f"{name}={value!r}" for name, value in record["env_kwargs"].items()]
    limit = record["panel"]["limit"]
    return ", ".join(words if limit is None else [f"only {limit:,} tasks", *words])


def _row(record: Record) -> list[str]:
    metrics = record["metrics"]
    return [
        _escape(record["agent"]),
        _escape(record["model"] or ""),
        *_share_cells(metrics["success"]),
        f"{metrics['score']['value']:.3f}",
        f"{metrics['score']['low']:.3f}–{metrics['score']['high']:.3f}",
        f"{metrics['steps']:.1f}",
        f"{metrics['invalid']:.1%}",
        "" if metrics["tokens"] is None else f"{metrics['tokens']:,.0f}",
        str(len(record["seeds"])),
    ]


def _won_by(what: str, field: str, records: Sequence[Record]) -> list[str]:
    """Return a table of success by task type or data set, and the mean over these; nothing if there are no two."""
    names = sorted({name for record in records for name in record["metrics"][field]})
    if len(names) < 2:
        return []
    rows = []
    for record in records:
        rates = [group["success"] for group in record["metrics"][field].values()]
        cells = [
            f"{record['metrics'][field][n]['success']:.1%}" if n in record["metrics"][field] else "" for n in names
        ]
        rows.append([_escape(_who(record)), *cells, f"{sum(rates) / len(rates):.1%}"])
    return ["", _markdown_table((f"won by {what}", *map(_escape, names), "mean"), rows, words=1)]


def _who(record: Record) -> str:
    """Return the agent, and its model if it has one."""
    return str(record["agent"] if record["model"] is None else f"{record['agent']}, {record['model']}")


def _share_cells(numbers: Mapping[str, float]) -> tuple[str, str]:
    return f"{numbers['value']:.1%}", f"{100 * numbers['low']:.1f}–{100 * numbers['high']:.1f}"


def _origin(record: Record, folder: Path) -> str:
    """Return the command, revision and record of a row."""
    there = f"{folder.as_posix()}/{file_name(record)}"
    revision = record["revision"]
    made = f"{_code(record['command'])} at `{revision if '=' in revision else revision[:12]}`, {record['date']}"
    return f"- {_escape(_who(record))}: {made} ([record]({there}))"


def _short_table(records: Sequence[Record]) -> str:
    rows = []
    for panel in _panels(records).values():
        for record in panel:
            told = _told(record)
            panel_name = f"{record['env_id']}, {record['split']}" + (f", {told}" if told else "")
            rows.append(
                [
                    _escape(panel_name),
                    _escape(_who(record)),
                    "{} ({})".format(*_share_cells(record["metrics"]["success"])),
                    f"{record['metrics']['score']['value']:.3f}",
                    f"{record['panel']['tasks']:,} × {len(record['seeds'])}",
                ]
            )
    if not rows:
        return "There are no results yet."
    return _markdown_table(("panel", "agent", "won (95 % interval)", "score", "tasks × seeds"), rows, words=2)


def _markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]], *, words: int) -> str:
    rule = ["---" if i < words else "---:" for i in range(len(head))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))


def _code(text: str) -> str:
    """Return text as code in Markdown, where nothing else is markup."""
    return f"`{' '.join(text.replace('`', chr(39)).split())}`"


def _escape(text: str) -> str:
    """Return text that is no markup in Markdown."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return re.sub(r"([\\`*\[\]<>|~#]|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z]))", r"\\\1", line)
