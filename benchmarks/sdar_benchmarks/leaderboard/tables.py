"""Markdown tables of a leaderboard, made of its records.

`render` writes `LEADERBOARD.md`, and in `README.md` a short table between the lines BEGIN and END, if it has them.
Tables are never written by hand, and `render(check=True)` fails while they differ from the records.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from sdar_agents import default_agent
from sdar_agents.baselines.scripted import FLOORS
from sdar_agents.baselines.search_baselines import SEARCH_BASELINES
from sdar_benchmarks.analysis.tables import data_words
from sdar_benchmarks.leaderboard.actions import actions_path
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
    for rows in _panels(records).values():
        told, flags = _told(rows[0]), _flags(rows[0])
        place = f"{rows[0]['env_id']}, {_place(rows[0])}" + (f", {told}" if told else "")
        parts.append(f"## {_escape(place)}\n")
        panel = rows[0]["panel"]
        parts.append(
            f"{panel['tasks']:,} tasks with the fingerprint `{panel['fingerprint'][:16]}`"
            + (f", variant {_code(panel['variant'])}" if panel["variant"] else "")
            + (f", on data that depart from the reference ones ({_escape(flags)})" if flags else "")
            + ".\n"
        )
        parts.append(_panel_table(rows))
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

Steps and tokens (read and written) are means of an episode; the cost is that of the row, in the unit of its prices.
Invalid is the share of commands that the environment could not use; of a model's answers, malformed is the share that
did not keep the format, and cut off the share that ended at the token limit. A dash stands for what a row does not say;
columns in which no row says anything are left out. Data that depart from the reference ones are a panel of their own,
which names its flags. A floor is what random choices or one fixed habit reach; a ceiling reads the hidden state.
The oracle of Search-QA knows where to search, and answers only what it was shown.

These commands make the rows of the scripted agents (`sdar leaderboard commands` prints them):

```bash
{commands}
```

To add a row, evaluate on the whole panel with three seeds or more, from a clean checkout or an installed package; add
the run by `sdar leaderboard add RUN`, and render. Runs that are not finished, have errors, or were made from a changed
checkout or several commits are refused. Embedded and official data are different panels, and so are corpora and engines
of Search-QA, wherever they run.

Beside a record are the actions of its episodes. `sdar leaderboard verify RECORD` plays them again and checks each
score and the row's totals: a row can be checked without its model. It cannot check that this agent chose the actions,
nor its answers, tokens and costs: for these you rely on whoever added the row.
"""

_BOUNDS = {
    "random": "floor",
    **dict.fromkeys(FLOORS, "floor"),
    "constant": "floor",
    "relation-constant": "floor",
    "random-option": "floor",
    "oracle": "ceiling",
}
_DASH = "–"
# Rows of the table in README.md at most.
_MOST_SHORT = 12
# Text columns, then numbers.
_WORDS = ("agent", "model", "prompt", "action format", "skills")
_ALWAYS = ("agent",)


_SEARCH_PLAYERS = ("oracle", "question-as-query", "random", *SEARCH_BASELINES)


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
    played |= {agent: list(floor.scripts) for agent, floor in FLOORS.items()}
    folders = {agent: f"runs/leaderboard/{agent.partition(' ')[0]}" for agent in played}
    lines = [
        f"sdar eval {' '.join(env_ids)} --agent {agent} --out {folders[agent]}" for agent, env_ids in played.items()
    ]
    lines += [
        _loop("--agent $of", SEARCH_BASELINES, ("test",), "--split $at"),
        _loop("--agent $of", _SEARCH_PLAYERS, ("test_paths", "test_hops", "test_worlds"), "--split $at"),
        _loop("--agent $of", _SEARCH_PLAYERS, ("films", "films_twin"), "--set corpus=$at"),
        # The facts do not tell the names along the way.
        _loop("--agent $of", [name for name in _SEARCH_PLAYERS if name != "name-only"], ("facts",), "--set corpus=$at"),
    ]
    return "\n".join([*lines, "sdar leaderboard add --replace runs/leaderboard/*", "sdar leaderboard render"])


def _loop(agent: str, agents: Sequence[str], places: Sequence[str], place: str) -> str:
    """Return a command that plays Search-QA with each agent at each place."""
    return (
        f"for of in {' '.join(agents)}; do for at in {' '.join(places)}; do "
        f"sdar eval sdar/SearchQA-v0 {place} {agent} --out runs/leaderboard/$of-$at; done; done"
    )


def _panels(records: Iterable[Record]) -> dict[tuple[str, ...], list[Record]]:
    """Return the records of each panel, the best first."""
    panels: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        kwargs = json.dumps(record["env_kwargs"], sort_keys=True)
        key = (record["env_id"], _place(record), record["panel"]["fingerprint"], kwargs, _flags(record))
        panels.setdefault(key, []).append(record)
    return {key: sorted(panels[key], key=_rank) for key in sorted(panels)}


def _rank(record: Record) -> tuple[float, float, str, str]:
    metrics = record["metrics"]
    return -metrics["success"]["value"], -metrics["score"]["value"], record["agent"], file_name(record)


def _place(record: Record) -> str:
    """Return the split of a panel, with the name of its tasks if they have one."""
    name = record["panel"].get("name")
    return f"{name}/{record['split']}" if name else str(record["split"])


def _flags(record: Record) -> str:
    """Return how the data of a panel depart from the reference ones; empty if they do not."""
    flags = record["panel"].get("data_flags")
    return data_words(flags) if flags else ""


def _told(record: Record) -> str:
    """Return the limit and the arguments of the panel that are not the defaults."""
    # The name of the panel says which corpus and level it is.
    told = ("corpus", "level") if record["panel"].get("name") else ()
    words = [f"{name}={value!r}" for name, value in record["env_kwargs"].items() if name not in told]
    limit = record["panel"]["limit"]
    return ", ".join(words if limit is None else [f"only {limit:,} tasks", *words])


def _panel_table(records: Sequence[Record]) -> str:
    """Return the table of a panel: what is needed to believe a row."""
    rows = [_cells(record) for record in records]
    columns = [name for name in rows[0] if name in _ALWAYS or any(row[name] for row in rows)]
    words = sum(name in _WORDS for name in columns)
    return _markdown_table(
        [name.strip() for name in columns], [[row[name] or _DASH for name in columns] for row in rows], words=words
    )


def _cells(record: Record) -> dict[str, str]:
    """Return the cells of a row by column, empty where the record says nothing."""
    metrics, settings = record["metrics"], record["settings"]
    success, success_interval = _share_cells(metrics["success"])
    score = metrics["score"]
    return {
        "agent": _escape(record["agent"]) + _bound(record),
        "model": _escape(record["model"] or ""),
        "prompt": _escape(_prompt_words(settings)),
        "action format": _escape(str(settings.get("action_format") or "")),
        "skills": _escape(_skill_words(settings.get("skills"))),
        "won": success,
        "95 % interval": success_interval,
        "score": f"{score['value']:.3f}",
        # A blank tells it from the other interval; it is not shown.
        "95 % interval ": f"{score['low']:.3f}–{score['high']:.3f}",
        "tasks × seeds": f"{record['panel']['tasks']:,} × {len(record['seeds'])}",
        "steps": f"{metrics['steps']:.1f}",
        "invalid": f"{metrics['invalid']:.1%}",
        "malformed": _share(metrics.get("malformed")),
        "cut off": _share(metrics.get("truncated")),
        "tokens": "" if metrics["tokens"] is None else f"{metrics['tokens']:,.0f}",
        "cost": "" if metrics["cost"] is None else f"{metrics['cost']:.4g}",
    }


def _bound(record: Record) -> str:
    """Return whether a row is a floor or a ceiling; empty if neither."""
    bound = _BOUNDS.get(record["agent"])
    return f" ({bound})" if bound else ""


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _prompt_words(settings: Mapping[str, Any]) -> str:
    """Return the prompt style of a model's row, and how an episode becomes chat if that is not the usual way."""
    if "style" not in settings:
        return ""
    style = settings["style"]
    words = "the suite's" if style is None else Path(str(style)).name
    return f"{words}, {settings['history']}" if settings.get("history", "windowed") != "windowed" else words


def _skill_words(skills: Any) -> str:
    """Return which skills a model reads; empty if none."""
    if not isinstance(skills, Mapping):
        return ""
    words = [f"{skills.get('retriever')}, k={skills.get('k')}"]
    content, left_out = skills.get("content"), skills.get("leave_out")
    words += [f"of {len(content):,}"] if isinstance(content, Mapping) and content else []
    words += [f"without {', '.join(map(str, left_out))}"] if isinstance(left_out, list) and left_out else []
    words += ["shuffled"] if skills.get("shuffled") else []
    return ", ".join(words)


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
    """Return the command, revision, record and actions of a row."""
    there = folder / file_name(record)
    links = f"[record]({there.as_posix()})"
    if record.get("actions") is not None:
        links += f", [actions]({actions_path(there).as_posix()})"
    revision = record["revision"]
    made = f"{_code(record['command'])} at `{revision if '=' in revision else revision[:12]}`, {record['date']}"
    return f"- {_escape(_who(record))}: {made} ({links})"


def _short_table(records: Sequence[Record]) -> str:
    """Return the table of `README.md`: at most `_MOST_SHORT` rows, of whole splits first, of each panel in turn."""
    panels = list(_panels(records).values())
    kept: list[str] = []
    for is_limited in (False, True):
        some = [sorted(rows, key=_weight) for rows in panels if (rows[0]["panel"]["limit"] is not None) == is_limited]
        kept += [file_name(record) for turn in zip_longest(*some) for record in turn if record is not None]
    kept = kept[:_MOST_SHORT]
    rows = []
    for panel in panels:
        for record in panel:
            if file_name(record) not in kept:
                continue
            told = ", ".join(filter(None, (_told(record), _flags(record))))
            panel_name = f"{record['env_id']}, {_place(record)}" + (f", {told}" if told else "")
            rows.append(
                [
                    _escape(panel_name),
                    _escape(_who(record)) + _bound(record),
                    "{} ({})".format(*_share_cells(record["metrics"]["success"])),
                    f"{record['metrics']['score']['value']:.3f}",
                    f"{record['panel']['tasks']:,} × {len(record['seeds'])}",
                ]
            )
    if not rows:
        return "There are no results yet."
    table = _markdown_table(("panel", "agent", "won (95 % interval)", "score", "tasks × seeds"), rows, words=2)
    return (
        table
        if len(rows) == len(records)
        else f"{table}\n\n{len(rows)} of {len(records)} rows; all are in LEADERBOARD.md."
    )


def _weight(record: Record) -> tuple[bool, tuple[float, float, str, str]]:
    """Return the order in which rows go into the short table: floors and ceilings last, else the best first."""
    return bool(_bound(record)), _rank(record)


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
