"""Records made of finished runs.

Not every run becomes a record. Refused are runs that are not finished, that have episodes which ended in an error, that
were made from a changed checkout, or from several commits. A run by an installed package, which has no commit, is
recorded with the package's version.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sdar_benchmarks.analysis.summary import PanelSummary, Summary, summarize_panel
from sdar_benchmarks.analysis.tables import data_words
from sdar_benchmarks.leaderboard.records import FIELDS, FORMAT, Record, check_record, file_name, records_folder
from sdar_benchmarks.records.runs import FREE_SETTINGS, final_episodes, read_config, read_episodes
from sdar_envs.errors import InvalidOption, UnknownName
from sdar_envs.files.locks import writing_folder
from sdar_envs.registry import env_arguments
from sdar_envs.secrets import check_no_secrets
from sdar_envs.storage import write_atomic

__all__ = ["add_run"]

# The place of the data, the address of a search engine and the drawing of frames are no part of the task; the panel's
# variant names the corpus and the engine, and the split has a field of its own.
_PRIVATE = frozenset({"data_dir", "render_mode", "retriever", "split", "token_env"})


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
            path = records_folder(root) / file_name(record)
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
