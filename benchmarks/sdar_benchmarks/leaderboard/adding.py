"""Records made of finished runs.

Not every run becomes a record. Refused are runs that are not finished, that have episodes which ended in an error, that
were made from a changed checkout, or from several commits. A run by an installed package, which has no commit, is
recorded with the package's version.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sdar_benchmarks.analysis.summary import summarize_panel
from sdar_benchmarks.analysis.tables import data_words
from sdar_benchmarks.leaderboard.actions import LARGEST, actions_of, actions_path, digest, pack
from sdar_benchmarks.leaderboard.metrics import played_metrics
from sdar_benchmarks.leaderboard.records import FIELDS, FORMAT, Record, check_record, file_name, records_folder
from sdar_benchmarks.records.runs import FREE_SETTINGS, Episode, final_episodes, read_config, read_episodes
from sdar_envs.errors import InvalidOption, UnknownName
from sdar_envs.files.locks import writing_folder
from sdar_envs.registry import env_arguments
from sdar_envs.secrets import check_no_secrets
from sdar_envs.storage import write_atomic

__all__ = ["PRIVATE_ARGUMENTS", "add_run"]

# The place of the data, the address of a search engine and the drawing of frames are no part of the task; the panel's
# variant names the corpus and the engine, and the split has a field of its own.
PRIVATE_ARGUMENTS: frozenset[str] = frozenset({"data_dir", "render_mode", "retriever", "split", "token_env"})
"""Arguments of environments that are left out of records."""


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
    config, panels = _panels(folder)
    actions = actions_of(folder, [episode for _, played in panels for episode in played])
    made = [(_record(config, panel, played), pack(played, actions)) for panel, played in panels]
    with writing_folder(root):
        contents = {}
        for facts, packed in made:
            record = {**facts, "actions": None if packed is None else digest(packed)}
            path = records_folder(root) / file_name(record)
            check_record(record, path.name)
            contents[path] = json.dumps(record, indent=1, ensure_ascii=False) + "\n", packed
            # The same record is there if adding the run was killed half way.
            if path.exists() and not replace and path.read_text(encoding="utf-8") != contents[path][0]:
                raise InvalidOption(
                    f"{path} exists: it is the record of the same agent on the same panel; --replace puts this run in "
                    "its place."
                )
        for path, (content, packed) in contents.items():
            _write(path, content, packed)
    return list(contents)


def _write(path: Path, content: str, packed: bytes | None) -> None:
    """Write a record and its actions; the record last, because it has the digest."""
    if packed is None:
        warnings.warn(
            f"the actions of {path.name} take more than {LARGEST:,} bytes, so they are not kept: the row cannot be "
            "verified.",
            RuntimeWarning,
            stacklevel=3,
        )
        actions_path(path).unlink(missing_ok=True)
    else:
        write_atomic(actions_path(path), packed)
    write_atomic(path, content)


def _panels(folder: Path) -> tuple[dict[str, Any], list[tuple[Mapping[str, Any], list[Episode]]]]:
    """Return the configuration of a run, and each of its panels with its episodes.

    Raises:
        InvalidOption: the run becomes no record.
    """
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
    return config, [(panel, _played(folder, config, panel, episodes)) for panel in config["panels"]]


def _played(
    folder: Path, config: Mapping[str, Any], panel: Mapping[str, Any], episodes: Sequence[Episode]
) -> list[Episode]:
    played = [e for e in episodes if (e.env_id, e.split) == (panel["env_id"], panel["split"])]
    if panel.get("only") is not None:
        raise InvalidOption(
            f"{folder} plays tasks of {panel['env_id']} that were chosen by name; a row is about a whole split, or the "
            "sample that --limit takes."
        )
    if len({data_words(episode.data_flags or {}) for episode in played}) > 1:
        raise InvalidOption(
            f"some episodes of {panel['env_id']} in {folder} were played on other data than others, so that their "
            "scores do not compare: evaluate again."
        )
    wanted = panel["tasks"] * len(config["seeds"])
    if len(played) != wanted:
        raise InvalidOption(
            f"{folder} has {len(played)} episodes of {panel['env_id']}; wanted {wanted}: go on with "
            "`sdar eval --resume`."
        )
    return played


def _revision(config: Mapping[str, Any]) -> str:
    """Return the commit of a run, or the version of the package that was installed without a checkout."""
    return str(config.get("revision") or f"sdar-envs=={config['versions']['sdar-envs']}")


def _record(config: Mapping[str, Any], panel: Mapping[str, Any], played: Sequence[Episode]) -> Record:
    summary = summarize_panel(panel["env_id"], panel["split"], played)
    numbers, settings = summary.total, config["agent"]["settings"]
    if numbers.invalid_share is None:
        raise InvalidOption(
            "a run of format 1 counts malformed answers and invalid actions as one, and a record wants the invalid "
            "actions alone: evaluate again."
        )
    if isinstance(settings.get("model"), str):
        settings = {**settings, "model": _model_name(settings["model"], config.get("directory"))}
    # A run of somebody else, or of an agent that reads its key itself.
    check_no_secrets({"command": config["command"], "env_kwargs": panel["env_kwargs"], **settings}, whose="fact")
    flags = played[0].data_flags
    tokens = [count for count in (numbers.prompt_tokens, numbers.completion_tokens) if count is not None]
    return {
        "format": FORMAT,
        "env_id": panel["env_id"],
        "split": panel["split"],
        "env_kwargs": _changed_arguments(panel),
        "panel": {
            **{name: panel[name] for name in ("tasks", "limit", "variant", "fingerprint")},
            **({"data_flags": dict(flags)} if flags else {}),
            **({"name": panel["name"]} if panel.get("name") else {}),
        },
        "agent": config["agent"]["name"],
        "model": settings.get("model"),
        "settings": _kept_settings(settings),
        "seeds": config["seeds"],
        "episodes": numbers.episodes,
        "metrics": {
            **played_metrics(summary),
            "tokens": round(sum(tokens) / numbers.episodes, 2) if tokens else None,
            "cost": numbers.cost,
            "seconds": round(numbers.mean_seconds, 6),
            "malformed": _rounded(numbers.malformed_share),
            "truncated": _rounded(numbers.truncated_share),
        },
        "command": config["command"],
        "revision": _revision(config),
        "date": config["finished"][:10],
        "hardware": config["platform"],
        "versions": config["versions"],
    }


def _model_name(model: str, directory: object) -> str:
    """Return the name of a model as it is on other machines: of a folder, its path from where the run was begun.

    Of a folder elsewhere, the last part of its path remains.
    """
    if not os.path.isabs(model):
        return model
    is_inside = isinstance(directory, str) and Path(model).is_relative_to(directory)
    return str(Path(model).relative_to(str(directory))) if is_inside else Path(model).name


def _changed_arguments(panel: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a panel's environment that differ from its defaults; all if it is not known here.

    Only these belong to a record: a version of the environment with one more argument plays the same panel.
    """
    try:
        defaults = env_arguments(panel["env_id"])
    except UnknownName:
        defaults = {}
    given = {name: value for name, value in panel["env_kwargs"].items() if name not in PRIVATE_ARGUMENTS}
    return {name: given[name] for name in sorted(given) if name not in defaults or defaults[name] != given[name]}


def _kept_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that decide results; of files of skills only the names, because hashes tell their content."""
    kept = {name: value for name, value in settings.items() if name not in FREE_SETTINGS}
    skills = kept.get("skills")
    if isinstance(skills, Mapping):
        kept["skills"] = {
            **skills,
            **{name: _base_name(skills[name]) for name in ("library", "ledger") if skills.get(name) is not None},
        }
    return kept


def _base_name(path: Any) -> Any:
    return [_base_name(part) for part in path] if isinstance(path, list) else Path(str(path)).name


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 6)
