"""Leaderboard: results as JSON records in a folder, and the Markdown tables that are made of them.

Any folder can hold a leaderboard. Its layout:

    LEADERBOARD.md          the tables, written by `render`
    results/*.json          the records; benchmarks/results/*.json if the folder has benchmarks/results
    README.md               optional: a short table goes between the lines BEGIN and END, if it has them

A record is one agent on one panel of tasks, with everything that is needed to play it again. Tables are never written
by hand, and `render(check=True)` fails while they differ from the records.

Not every run becomes a record. Refused are runs that are not finished, that have episodes which ended in an error, that
were made from a changed checkout, or from several commits. A run by an installed package, which has no commit, is
recorded with the package's version.

`FIELDS` says what a record holds. `env_kwargs` are the arguments of the environment that differ from its defaults.
Shares are 0 to 1; intervals are of 95 %.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from sdar_agents import default_agent
from sdar_agents.baselines.scripted import FLOORS
from sdar_benchmarks.analysis.summary import PanelSummary, Summary, summarize_panel
from sdar_benchmarks.analysis.tables import data_words
from sdar_benchmarks.records.runs import FREE_SETTINGS, final_episodes, read_config, read_episodes
from sdar_benchmarks.records.schema import AMOUNT, COUNT, OBJECT, Kind, check_fields, optional
from sdar_envs import ENV_IDS
from sdar_envs.errors import CorruptData, InvalidOption, MissingData, UnknownName
from sdar_envs.files.foreign import read_foreign
from sdar_envs.files.json_text import parse_json
from sdar_envs.files.locks import writing_folder
from sdar_envs.registry import env_arguments
from sdar_envs.secrets import check_no_secrets
from sdar_envs.storage import write_atomic

__all__ = [
    "BEGIN",
    "END",
    "FIELDS",
    "FORMAT",
    "add_run",
    "check_record",
    "commands",
    "load_records",
    "records_folder",
    "render",
]

FORMAT = 2
BEGIN, END = "<!-- leaderboard:begin -->", "<!-- leaderboard:end -->"

# The place of the data, the address of a search engine and the drawing of frames are no part of the task; the panel's
# variant names the corpus and the engine, and the split has a field of its own.
_PRIVATE = frozenset({"data_dir", "render_mode", "retriever", "split", "token_env"})


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_day(value: Any) -> bool:
    try:
        return isinstance(value, str) and date.fromisoformat(value).isoformat() == value
    except ValueError:
        return False


_TEXT = Kind("text", _is_text)
_SOME_AMOUNT = optional(AMOUNT)
_SHARE = Kind("a number from 0 to 1", lambda value: AMOUNT.accepts(value) and value <= 1)
_INTERVAL = {"value": _SHARE, "low": _SHARE, "high": _SHARE}


def _is_group(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"episodes", "success", "score"}
        and COUNT.accepts(value["episodes"])
        and all(_SHARE.accepts(value[name]) for name in ("success", "score"))
    )


_GROUPS = Kind(
    "an object of objects with episodes, success and score",
    lambda value: isinstance(value, dict) and all(map(_is_group, value.values())),
)
_SHARES = Kind(
    "an object of numbers from 0 to 1",
    lambda value: isinstance(value, dict) and all(map(_SHARE.accepts, value.values())),
)

FIELDS: Mapping[str, Any] = {
    "format": Kind(f"{FORMAT}", lambda value: value == FORMAT and COUNT.accepts(value)),
    "env_id": _TEXT,
    "split": _TEXT,
    "env_kwargs": OBJECT,
    "panel": {
        "tasks": Kind("a whole number from 1", lambda value: COUNT.accepts(value) and value > 0),
        "limit": Kind("a whole number or null", lambda value: value is None or COUNT.accepts(value)),
        "variant": Kind("text, which may be empty", lambda value: isinstance(value, str)),
        "fingerprint": Kind(
            "at least 16 hexadecimal digits",
            lambda value: isinstance(value, str) and bool(re.fullmatch("[0-9a-f]{16,}", value)),
        ),
    },
    "agent": _TEXT,
    "model": Kind("text or null", lambda value: value is None or _is_text(value)),
    "settings": OBJECT,
    "seeds": Kind(
        "a list of different whole numbers",
        lambda value: (
            isinstance(value, list) and bool(value) and all(map(COUNT.accepts, value)) and len(set(value)) == len(value)
        ),
    ),
    "episodes": COUNT,
    "metrics": {
        "success": _INTERVAL,
        "score": _INTERVAL,
        "steps": AMOUNT,
        "invalid": _SHARE,
        "tokens": _SOME_AMOUNT,
        "cost": _SOME_AMOUNT,
        "seconds": AMOUNT,
        "pass_at_k": _SHARES,
        "task_types": _GROUPS,
        "data_sets": _GROUPS,
    },
    "command": _TEXT,
    "revision": Kind(
        "the 40 digits of a commit, or sdar-envs==VERSION",
        lambda value: (
            isinstance(value, str) and bool(re.fullmatch(r"[0-9a-f]{40}|sdar-envs==[0-9][0-9A-Za-z.+!]*", value))
        ),
    ),
    "date": Kind("a day such as 2026-11-24", _is_day),
    "hardware": OBJECT,
    "versions": OBJECT,
}
"""The fields of a record: a kind of value, or the fields of an object. All must be there, and no others."""

Record = Mapping[str, Any]


# -- records --------------------------------------------------------------------------------


def records_folder(root: Path) -> Path:
    """Return the folder of a leaderboard's records: `benchmarks/results` if it exists, else `results`.

    Args:
        root: folder of the leaderboard.
    """
    inner = root / "benchmarks" / "results"
    return inner if inner.is_dir() else root / "results"


def add_run(folder: Path, root: Path, *, replace: bool = False) -> list[Path]:
    """Make a record of each panel of a run, all or none.

    Args:
        folder: of a finished run.
        root: folder of the leaderboard; it is made if it does not exist.
        replace: replace records of the same agent on the same panel.

    Returns:
        The paths of the records.

    Raises:
        MissingData: the folder is no run.
        CorruptData: its files are damaged.
        InvalidOption: the run is not finished, has errors, was made from a changed checkout or several commits, or
            there is another such record already; or another process writes to the leaderboard.
    """
    records = _records(folder)
    with writing_folder(root):
        contents = {}
        for record in records:
            path = records_folder(root) / _file_name(record)
            check_record(record, path.name)
            contents[path] = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
            # The same record is there if adding the run was killed half way.
            if path.exists() and not replace and path.read_text(encoding="utf-8") != contents[path]:
                raise InvalidOption(
                    f"{path} exists: it is the record of the same agent on the same panel; --replace puts this run in "
                    "its place."
                )
        for path, content in contents.items():
            write_atomic(path, content)
    return list(contents)


def load_records(root: Path) -> list[Record]:
    """Read all records, sorted by the names of their files.

    Raises:
        CorruptData: a file is no record; the message names the field, what it holds and what was wanted.
    """
    records = []
    for path in sorted(records_folder(root).glob("*.json")):
        try:
            record = parse_json(read_foreign(path), parse_constant=_refuse_constant, object_pairs_hook=_unique)
        except (OSError, ValueError) as error:
            raise CorruptData(
                f"{path} is no JSON ({error}): make the record again by `sdar leaderboard add`."
            ) from error
        check_record(record, path.name)
        if path.name != _file_name(record):
            raise CorruptData(
                f"{path} should be called {_file_name(record)}, which follows from what is in it: rename it."
            )
        records.append(record)
    return records


def check_record(record: Any, name: str) -> None:
    """Check a record against `FIELDS`, and its numbers against one another.

    Args:
        record: what a file holds.
        name: of the file, for the message.

    Raises:
        CorruptData: it is no record.
    """
    if isinstance(record, dict) and not FIELDS["format"].accepts(record.get("format")):
        raise CorruptData(
            f"{name}: format is {record.get('format')!r}; wanted {FORMAT}: delete the file and add the run again."
        )
    check_fields(record, FIELDS, name, "the record")
    try:
        json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise CorruptData(f"{name}: a text has half of a surrogate pair ({error}); no table can show it.") from error
    for metric in ("success", "score"):
        numbers = record["metrics"][metric]
        if not numbers["low"] <= numbers["value"] <= numbers["high"]:
            raise CorruptData(f"{name}: metrics.{metric} is {numbers}; wanted low <= value <= high.")
    wanted = record["panel"]["tasks"] * len(record["seeds"])
    if record["episodes"] != wanted:
        raise CorruptData(f"{name}: episodes is {record['episodes']}; wanted tasks times seeds, {wanted}.")


def _records(folder: Path) -> list[Record]:
    config = read_config(folder)
    if config.get("finished") is None:
        raise InvalidOption(f"{folder} is not finished: go on with `sdar eval --resume`, then add it.")
    revision = _revision(config)
    if not FIELDS["revision"].accepts(revision):
        raise InvalidOption(
            f"the revision of {folder} is {revision!r}; wanted a commit, so that the result can be reproduced: "
            "commit your changes and evaluate from that checkout."
        )
    others = [part["revision"] for part in config.get("resumed", []) if "revision" in part]
    if others:
        raise InvalidOption(
            f"{folder} was begun at {revision} and resumed at {', '.join(map(str, others))}: a row is about one "
            "commit. Evaluate again from one checkout."
        )
    episodes = final_episodes(read_episodes(folder))
    errors = sum(episode.status == "error" for episode in episodes)
    if errors:
        raise InvalidOption(
            f"{errors} of {len(episodes)} episodes of {folder} ended in an error: a row is about an agent, not "
            "about an endpoint. `sdar eval --resume` tries them again."
        )
    records = []
    for panel in config["panels"]:
        played = [e for e in episodes if (e.env_id, e.split) == (panel["env_id"], panel["split"])]
        flags = next((e.data_flags for e in played if e.data_flags), None)
        if flags:
            raise InvalidOption(
                f"the data of {panel['env_id']} in {folder} are {data_words(flags)}, so that its scores do not compare "
                "with other rows: install what the warnings of the run name, and evaluate again."
            )
        wanted = panel["tasks"] * len(config["seeds"])
        if len(played) != wanted:
            raise InvalidOption(
                f"{folder} has {len(played)} episodes of {panel['env_id']}; wanted {wanted}: go on with "
                "`sdar eval --resume`."
            )
        records.append(_record(config, panel, summarize_panel(panel["env_id"], panel["split"], played)))
    return records


def _revision(config: Mapping[str, Any]) -> str:
    """Return the commit of a run, or the version of the package that was installed without a checkout."""
    return str(config.get("revision") or f"sdar-envs=={config['versions']['sdar-envs']}")


def _record(config: Mapping[str, Any], panel: Mapping[str, Any], summary: PanelSummary) -> Record:
    numbers, settings = summary.total, config["agent"]["settings"]
    if numbers.invalid_share is None:
        raise InvalidOption(
            "a run of format 1 counts malformed answers and invalid actions as one, and a record wants the invalid "
            "actions alone: evaluate again."
        )
    # A run of somebody else, or of an agent that reads its key itself.
    check_no_secrets({"command": config["command"], "env_kwargs": panel["env_kwargs"], **settings}, whose="fact")
    tokens = [count for count in (numbers.prompt_tokens, numbers.completion_tokens) if count is not None]
    return {
        "format": FORMAT,
        "env_id": panel["env_id"],
        "split": panel["split"],
        "env_kwargs": _changed_arguments(panel),
        "panel": {name: panel[name] for name in ("tasks", "limit", "variant", "fingerprint")},
        "agent": config["agent"]["name"],
        "model": settings.get("model"),
        "settings": {name: value for name, value in settings.items() if name not in FREE_SETTINGS},
        "seeds": config["seeds"],
        "episodes": numbers.episodes,
        "metrics": {
            "success": _interval(numbers.success_rate, numbers.success_interval),
            "score": _interval(numbers.mean_score, numbers.score_interval),
            "steps": round(numbers.mean_steps, 4),
            "invalid": round(numbers.invalid_share, 6),
            "tokens": round(sum(tokens) / numbers.episodes, 2) if tokens else None,
            "cost": numbers.cost,
            "seconds": round(numbers.mean_seconds, 6),
            "pass_at_k": {k: round(mean, 6) for k, (mean, _, _) in numbers.pass_at_k.items()},
            "task_types": _groups(summary.task_types),
            "data_sets": _groups(summary.data_sets),
        },
        "command": config["command"],
        "revision": _revision(config),
        "date": config["finished"][:10],
        "hardware": config["platform"],
        "versions": config["versions"],
    }


def _changed_arguments(panel: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a panel's environment that differ from its defaults; all if it is not known here.

    Only these belong to a record: a version of the environment with one more argument plays the same panel.
    """
    try:
        defaults = env_arguments(panel["env_id"])
    except UnknownName:
        defaults = {}
    given = {name: value for name, value in panel["env_kwargs"].items() if name not in _PRIVATE}
    return {name: given[name] for name in sorted(given) if name not in defaults or defaults[name] != given[name]}


def _groups(summaries: Mapping[str, Summary]) -> dict[str, dict[str, float]]:
    return {
        name: {
            "episodes": numbers.episodes,
            "success": round(numbers.success_rate, 6),
            "score": round(numbers.mean_score, 6),
        }
        for name, numbers in summaries.items()
    }


def _interval(value: float, interval: Sequence[float]) -> dict[str, float]:
    low, high = interval
    return {"value": round(value, 6), "low": round(low, 6), "high": round(high, 6)}


def _file_name(record: Record) -> str:
    """Return the name of a record's file: readable, and unique for each agent on each panel."""
    identity = {name: record[name] for name in ("env_id", "split", "env_kwargs", "panel", "agent", "settings", "seeds")}
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    words = [record["env_id"].rpartition("/")[2], record["split"], record["agent"], record["model"] or ""]
    readable = "-".join(re.sub(r"[^a-z0-9.]+", "-", word.lower()).strip("-.")[:40] for word in words if word)
    return f"{readable}-{digest}.json"


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        raise ValueError(f"a name is given twice: {next(name for name in names if names.count(name) > 1)!r}")
    return dict(pairs)


# -- tables ---------------------------------------------------------------------------------


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
    played |= {agent: list(floor.scripts) for agent, floor in FLOORS.items()}
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
    return -metrics["success"]["value"], -metrics["score"]["value"], record["agent"], _file_name(record)


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
    there = f"{folder.as_posix()}/{_file_name(record)}"
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
