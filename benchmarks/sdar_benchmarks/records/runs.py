"""Run folder of an evaluation, its writer and its readers: configuration, episodes, trajectories, summary.

- `config.json`: `format`, `command`, `created`, `finished` (null while something is missing), `panels` (a list of
  `env_id`, `split`, `limit`, `env_kwargs`, `tasks`, `variant`, `fingerprint`; `only`, ids of tasks, and `data_flags`
  if there are any), `agent` (`name`, `settings`), `seeds`, `concurrency`, `limits` (`max_turn_seconds`,
  `episode_seconds`, `episode_tokens`, `attempts`), `versions`, `revision`, `platform`, `adaptations` (what was done
  otherwise than asked, because a server wanted it so or failed for a time: a list of `kind`, `text`, `times`; written
  at the end), and `resumed`, a list of what was different when the run was resumed. No secrets.
- `episodes.jsonl`: a row per finished attempt, in order of completion; `Episode` says what is in it. The last row of
  a task and seed is the one that counts.
- `trajectories.jsonl`: a row per finished attempt: `env_id`, `task_id`, `task_type`, `split`, `seed`, `attempt`,
  `instruction`, `is_success`, `score`, `stop_reason`, `final_observation` and `turns`, a list of `observation`,
  `messages`, `response`, `reasoning` (these three null for agents without a model), `action`, `reward`,
  `is_well_formed` (whether the completion kept the format; null if no model was asked), `is_action_valid` (whether the
  environment accepted the command), `score` and `admissible_commands`. A model's turn has
  `finish_reason` too (`eos`, `stop`, or `length` where the token limit cut the answer), and `refusal` and `tool_calls`,
  as they came, where there were some. Where a model reads skills, a turn has `skills` (a list of `<id>@<version>`),
  their `skill_hashes`, and `dropped_skills`, which did not fit the prompt. Training runs add `step` and `group_id` to a
  row, and to a turn `tokens` (a list of `text`, `gap`, `gate`) and the teacher's prompt, of which `skills` are then a
  part.
- `summary.json`, `report.md`: the numbers, written at the end of a run and after an interruption.

Rows are appended and flushed, the trajectory before its episode; the other files are replaced atomically. A kill at any
moment loses only the episodes in flight: a torn last line counts as missing, and resuming removes it. A power cut can
take the rows of the last second, which is how often they are synced to the disk. One process writes at a time; readers
need no lock. Folders of format 1 are migrated on reading (see `migration`); other formats are refused.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from sdar_benchmarks.records.migration import migrate_config, migrate_episodes, migrate_trajectory
from sdar_benchmarks.records.schema import Amount, Count, LeftOut, Name, Number, Object, Text, check_row, make_row
from sdar_envs.errors import CorruptData, InvalidOption, MissingData
from sdar_envs.files.json_text import read_json_object
from sdar_envs.files.lines import append_row, cut_back, drop_torn_line, line_start, numbered_rows, parse_row
from sdar_envs.files.locks import writing_folder
from sdar_envs.files.replacing import sweep
from sdar_envs.importing import add_run_directory
from sdar_envs.printing import printable
from sdar_envs.storage import absolute_path, check_run, write_atomic

__all__ = [
    "CONFIG",
    "EPISODES",
    "ERROR_REASONS",
    "FORMAT",
    "FREE_SETTINGS",
    "REPORT",
    "ROW_NAMES",
    "STOP_REASONS",
    "SUMMARY",
    "TRAJECTORIES",
    "Episode",
    "EpisodeKey",
    "RunConfig",
    "RunWriter",
    "changed_keys",
    "enter_run",
    "final_episodes",
    "read_config",
    "read_episodes",
    "read_summary",
    "read_trajectories",
]

FORMAT = 2
"""Version of the files; raised when a reader of the old version would misunderstand the new one."""

_MIGRATED_FORMAT = 1

CONFIG, EPISODES, TRAJECTORIES, SUMMARY, REPORT = (
    "config.json",
    "episodes.jsonl",
    "trajectories.jsonl",
    "summary.json",
    "report.md",
)
# Waiting for the disk takes longer than a scripted episode.
_SECONDS_BETWEEN_SYNCS = 1.0

STOP_REASONS = (
    "terminated",
    "step_limit",
    "time_limit",
    "token_limit",
    "gave_up",
    "agent_error",
    "endpoint_error",
    "env_error",
)
"""Why an episode ended. `gave_up`: the agent has no winning plan, such as the oracle on an unsolvable task."""

ERROR_REASONS = frozenset({"agent_error", "endpoint_error", "env_error"})
"""Stop reasons of failed episodes, which say nothing about the agent's skill and are tried again."""

# What may differ when a run is resumed: it decides neither the tasks nor how they are played.
_FREE_KEYS = frozenset(
    {
        "command",
        "directory",
        "created",
        "finished",
        "concurrency",
        "revision",
        "platform",
        "resumed",
        "migrated_from",
        "adaptations",
    }
)
_FREE_VERSIONS = frozenset({"python", "gymnasium", "numpy"})
_FREE_LIMITS = frozenset({"attempts"})
FREE_SETTINGS = frozenset({"base_url", "api_key_env", "request_seconds", "retries", "backoff_seconds", "stream"})
"""Agent settings that do not change results: where a model is served, and timeouts and retries of requests."""


class EpisodeKey(NamedTuple):
    """Identity of an episode: one task of one environment with one seed."""

    env_id: str
    task_id: str
    seed: int


@dataclass(frozen=True, slots=True)
class Episode:
    """Result of one attempt at a task: a row of `episodes.jsonl`, where `episode_return` is called `return`.

    The annotations are the schema of the row (see `schema`): a field that is added here is checked where rows are read.

    Attributes:
        env_id: the environment.
        task_id: the task.
        task_type: its kind.
        split: its split.
        seed: one of the run's seeds; `derive_seed` derives that of the episode.
        attempt: 1, or more if earlier ones ended in an error.
        status: "error" if `stop_reason` is one of `ERROR_REASONS`.
        is_success: the task was done.
        score: the environment's score at the end.
        episode_return: sum of rewards.
        steps: commands given.
        invalid_actions: commands that the environment did not accept; None if format 1 did not tell them apart.
        malformed_answers: completions that did not keep the format; None if no model was asked, or as above.
        terminated: the task's end was reached.
        truncated: the steps ran out.
        stop_reason: one of `STOP_REASONS`.
        error: `type` and `message` of an error, else None.
        prompt_tokens: that the model read; None if the agent counts none.
        completion_tokens: that the model wrote; None if the agent counts none.
        cost: of the tokens, in the unit of the prices; None without prices.
        seconds: time for the episode, agent and environment.
        agent_seconds: the part of it that the agent took, waiting included.
        data_set: of the task, such as `nq`; None in suites that know only one.
        metrics: further scores at the end by name, such as `f1_squad`; None in suites that have none.
        data_flags: how the data departed from the reference ones (`TextEnv.data_flags`); None if they did not.
        truncated_answers: completions that the token limit cut; None if no model was asked, or in older runs.
        refusals: completions that refused to answer; None as above.
        cached_tokens: the part of `prompt_tokens` that a server had in its cache; None if it is not known.
    """

    env_id: Name
    task_id: Name
    task_type: Name
    split: Name
    seed: Count
    attempt: Count
    status: Literal["ok", "error"]
    is_success: bool
    score: Number
    episode_return: Number
    steps: Count
    invalid_actions: Count | None
    malformed_answers: Count | None
    terminated: bool
    truncated: bool
    stop_reason: Name
    error: Mapping[str, str] | None
    prompt_tokens: Count | None
    completion_tokens: Count | None
    cost: Amount | None
    seconds: Amount
    agent_seconds: Amount
    data_set: Name | None = None
    metrics: Mapping[str, float] | None = None
    data_flags: Mapping[str, Any] | None = None
    truncated_answers: Count | None = None
    refusals: Count | None = None
    cached_tokens: Count | None = None

    @property
    def key(self) -> EpisodeKey:
        """Task and seed, which all attempts share."""
        return EpisodeKey(self.env_id, self.task_id, self.seed)

    def to_json(self) -> dict[str, Any]:
        """Return the row as a dictionary of JSON values."""
        return {ROW_NAMES.get(field.name, field.name): getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Episode:
        """Rebuild an episode from its row; what else the row holds is ignored.

        Raises:
            CorruptData: a field is missing, or is of another type or out of range.
        """
        return make_row(cls, row, ROW_NAMES)


ROW_NAMES = MappingProxyType({"episode_return": "return"})
"""Names in a row of `episodes.jsonl` of the fields of `Episode` that are called otherwise there."""


def final_episodes(episodes: Iterable[Episode]) -> list[Episode]:
    """Return the attempt that counts of each task and seed: the last one. In the order of the first attempts."""
    return list({episode.key: episode for episode in episodes}.values())


# -- reading --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Panel:
    """Schema of a panel in `config.json`."""

    env_id: Name
    split: Name
    env_kwargs: Object
    tasks: Count
    variant: Name
    fingerprint: Name
    limit: Count | None = None
    only: list[Name] | None = None
    data_flags: Object | None = None


@dataclass(frozen=True, slots=True)
class _Agent:
    """Schema of the agent in `config.json`."""

    name: Name
    settings: Object


@dataclass(frozen=True, slots=True)
class _Sitting:
    """Schema of what was different when a run was resumed."""

    at: Name


@dataclass(frozen=True, slots=True)
class _Adaptation:
    """Schema of what was done otherwise than asked."""

    kind: Name
    text: Name
    times: Count


@dataclass(frozen=True, slots=True)
class RunConfig:
    """Schema of `config.json`."""

    command: Text
    created: Name
    finished: Name | None
    panels: list[_Panel]
    agent: _Agent
    seeds: list[Count]
    limits: Object
    versions: Mapping[str, str]
    platform: Object
    revision: Name | None
    resumed: list[_Sitting]
    directory: Name | None = None
    adaptations: list[_Adaptation] = field(default_factory=list)


def read_config(folder: Path) -> dict[str, Any]:
    """Return the configuration of a run.

    Raises:
        MissingData: the folder is no run.
        CorruptData: the configuration cannot be read.
        InvalidOption: it is of an unknown format.
    """
    config = _read_object(folder, CONFIG)
    # A float or true would be equal to an int.
    version = config.get("format") if type(config.get("format")) is int else None
    if version == _MIGRATED_FORMAT:
        config = migrate_config(config, FORMAT)
    elif version != FORMAT:
        raise InvalidOption(
            f"{folder} is a run of format {config.get('format')!r:.80}, this release of sdar-envs reads formats "
            f"{_MIGRATED_FORMAT} and {FORMAT}: "
            "use the release that wrote it, or evaluate again into another folder."
        )
    try:
        check_row(RunConfig, config)
    except CorruptData as error:
        raise CorruptData(f"{folder / CONFIG}: {error}: restore it, or evaluate again.") from error
    return config


def enter_run(folder: Path) -> dict[str, Any]:
    """Prepare for resuming a run: return its configuration, and import `module:name` objects from where it was begun.

    Raises:
        MissingData: the folder is no run; the message names the closest one beside it.
        CorruptData: the configuration cannot be read.
        InvalidOption: it is of an unknown format.
    """
    check_run(folder, CONFIG)
    config = read_config(folder)
    add_run_directory(config.get("directory"))
    return config


def read_episodes(folder: Path, left_out: LeftOut | None = None) -> list[Episode]:
    """Return all attempts of a run, in order of completion; see `final_episodes`.

    Args:
        folder: of the run.
        left_out: counts the rows that cannot be read or do not fit; None refuses them.

    Raises:
        CorruptData: a line other than a torn last one cannot be read, or the file is no regular file.
    """
    path = folder / EPISODES
    rows = list(numbered_rows(path, left_out.add if left_out else None))
    migrated = migrate_episodes([row for _, row in rows], lambda: read_trajectories(folder, skip=left_out is not None))
    episodes = []
    for (number, _), row in zip(rows, migrated, strict=True):
        try:
            episodes.append(Episode.from_json(row))
        except CorruptData as error:
            if left_out is None:
                raise CorruptData(f"{path}, line {number}: {error}: remove the line.") from error
            left_out.add(number, error)
    return episodes


def read_trajectories(folder: Path, *, skip: bool = False) -> Iterator[dict[str, Any]]:
    """Read the trajectories one by one, in order of completion, attempts that ended in an error included.

    Args:
        folder: of the run.
        skip: leave out lines that cannot be read.

    Raises:
        CorruptData: a line other than a torn last one cannot be read.
    """
    rows = numbered_rows(folder / TRAJECTORIES, (lambda number, error: None) if skip else None)
    return (migrate_trajectory(row) for _, row in rows)


def read_summary(folder: Path) -> dict[str, Any]:
    """Return the numbers of a run.

    Raises:
        MissingData: there are none: the run was never finished or interrupted in an orderly way.
        CorruptData: they cannot be read.
    """
    return _read_object(folder, SUMMARY)


def changed_keys(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return the differences between two configurations that can change results.

    Returns:
        Sentences such as `agent.settings.temperature was 0.4 and is 1.0`.
    """
    return list(_differences("", _decisive(old), _decisive(new)))


# -- writing --------------------------------------------------------------------------------


class RunWriter:
    """Writer of a run folder, which it locks. A context manager: leaving it closes the files and releases the lock.

    Args:
        folder: made if it is missing.
        config: the configuration, complete but for `finished` and `resumed`.
        resume: continue the run in the folder, if there is one.
        defaults: by environment id, its default arguments: what a run has for an argument that its version of the
            environment did not have yet.
        agent_defaults: the same for the settings of the agent.

    Attributes:
        folder: as given.
        config: the content of `config.json`.
        episodes: the attempts that the folder already held.

    Raises:
        InvalidOption: the folder holds a run and `resume` is False, holds something else, belongs to a run of another
            configuration or format, or another process writes to it.
        CorruptData: it holds a run that is damaged.
        OSError: it cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any],
        *,
        resume: bool = False,
        defaults: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
        agent_defaults: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.folder = folder
        # As the file will have it: tuples become lists.
        self.config: dict[str, Any] = json.loads(json.dumps({**config, "finished": None, "resumed": []}))  # noqa: TID251
        self.episodes: list[Episode] = []
        if not (folder / CONFIG).exists() and not _is_free(folder):
            raise InvalidOption(f"{folder} exists and is no run folder: choose another name.")
        with ExitStack() as stack:
            is_locked = stack.enter_context(writing_folder(folder))
            if (folder / CONFIG).exists():
                if not resume:
                    raise InvalidOption(
                        f"{folder} holds a run already: continue it with --resume, or choose another folder."
                    )
                self._take_over(defaults, agent_defaults)
            if is_locked:
                sweep(folder)
            self._write_config()
            self._trajectories = stack.enter_context(open(folder / TRAJECTORIES, "ab", buffering=0))
            self._rows = stack.enter_context(open(folder / EPISODES, "ab", buffering=0))
            self._synced = time.monotonic()
            self._stack = stack.pop_all()

    def __enter__(self) -> RunWriter:
        """Return the writer itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        self.close()

    def close(self) -> None:
        """Close the files and release the lock."""
        self._stack.close()

    def append(self, episode: Episode, trajectory: Mapping[str, Any]) -> None:
        """Append an attempt.

        Raises:
            OSError: it cannot be written, on a full disk for example; no part of a line is left if that is possible.
        """
        # In this order a kill can leave a trajectory without its episode, never the reverse.
        end = append_row(self._trajectories, trajectory, sync=False)
        try:
            append_row(self._rows, episode.to_json(), sync=False)
        except OSError:
            cut_back(self._trajectories, end)
            raise
        if time.monotonic() - self._synced > _SECONDS_BETWEEN_SYNCS:
            self._sync()

    def finish(self, summary: Mapping[str, Any], report: str, finished: str | None) -> None:
        """Write the summary and the report, and mark the run as finished.

        Args:
            summary: for `summary.json`.
            report: for `report.md`.
            finished: the time; None if episodes are missing.

        Raises:
            OSError: something cannot be written.
        """
        self._sync()
        write_atomic(self.folder / SUMMARY, _pretty(summary))
        write_atomic(self.folder / REPORT, printable(report))
        self.config["finished"] = finished
        self._write_config()

    def _sync(self) -> None:
        for file in (self._trajectories, self._rows):
            os.fsync(file.fileno())
        self._synced = time.monotonic()

    def _take_over(self, defaults: Mapping[str, Mapping[str, Any]], agent_defaults: Mapping[str, Any]) -> None:
        new, old = self.config, read_config(self.folder)
        panels = [
            {**panel, "env_kwargs": {**defaults.get(panel["env_id"], {}), **panel["env_kwargs"]}}
            for panel in old["panels"]
        ]
        agent = dict(old.get("agent", {}))
        agent["settings"] = {**agent_defaults, **agent.get("settings", {})}
        changes = changed_keys({**old, "panels": panels, "agent": agent}, new)
        if changes:
            raise InvalidOption(
                f"{self.folder} is a run of another configuration: {'; '.join(changes)}. "
                "Give the same arguments as before, or choose another folder."
            )
        for name in (TRAJECTORIES, EPISODES):
            drop_torn_line(self.folder / name)
        self.episodes = read_episodes(self.folder)
        _drop_orphan(self.folder / TRAJECTORIES, self.episodes)
        changed = {"at": new["created"]}
        for key in ("command", "concurrency", "revision", "versions", "platform", "agent", "limits"):
            if old.get(key) != new.get(key):
                changed[key] = new.get(key)
        self.config = {**old, "finished": None, "resumed": [*old.get("resumed", []), changed]}

    def _write_config(self) -> None:
        write_atomic(self.folder / CONFIG, _pretty(self.config))


def _decisive(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a configuration that can change results."""
    agent = dict(config.get("agent", {}))
    agent["settings"] = _without(agent.get("settings", {}), FREE_SETTINGS)
    return {
        **_without(config, _FREE_KEYS),
        "agent": agent,
        "limits": _without(config.get("limits", {}), _FREE_LIMITS),
        "versions": _without(config.get("versions", {}), _FREE_VERSIONS),
    }


def _without(values: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def _differences(path: str, old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            yield from _differences(f"{path}.{key}" if path else key, old.get(key), new.get(key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _differences(f"{path}[{index}]", before, after)
    elif old != new and not _is_same_path(old, new):
        yield f"{path} was {old!r} and is {new!r}"


def _is_same_path(old: Any, new: Any) -> bool:
    """Return whether a run has a path as it was given, as runs had them, and it is now given from the same folder."""
    return isinstance(old, str) and isinstance(new, str) and os.path.isabs(new) and absolute_path(old) == new


def _is_free(folder: Path) -> bool:
    """Return whether a run may begin there. Hidden files are the lock, and what a kill left of a first write."""
    if not folder.exists():
        return True
    return folder.is_dir() and all(entry.name.startswith(".") for entry in folder.iterdir())


def _read_object(folder: Path, name: str) -> dict[str, Any]:
    try:
        return read_json_object(folder / name)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingData(
            f"{folder} has no {name}; wanted the folder of a run, as `sdar eval --out` writes it."
        ) from error


def _drop_orphan(path: Path, episodes: Iterable[Episode]) -> None:
    """Remove the last trajectory if a kill kept its episode from being written."""
    with suppress(FileNotFoundError), open(path, "r+b") as file:
        end = file.seek(0, os.SEEK_END)
        if not end:
            return
        start = line_start(file, end - 1)
        file.seek(start)
        row = parse_row(file.read(), f"{path}, last line,")
        # A list: what the row holds need not be hashable.
        written = [(*episode.key, episode.attempt) for episode in episodes]
        if tuple(row.get(key) for key in ("env_id", "task_id", "seed", "attempt")) not in written:
            file.truncate(start)


def _pretty(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, indent=1, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        # Half of a surrogate pair, which can be in the name of a task; as an escape it survives.
        text = json.dumps(content, indent=1)
    return text + "\n"
