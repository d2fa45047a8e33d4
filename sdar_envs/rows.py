"""Rows of data sets for trainers: what names a task, and nothing that gives its answer away.

    rows = task_rows("sdar/ALFWorld-v0", split="train", limit=512)
    to_parquet("train.parquet", "sdar/ALFWorld-v0", split="train", layout="verl")

`reset(options={"task": row})` plays the task of such a row; further columns do not matter.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from io import BytesIO
from itertools import islice
from os import PathLike
from typing import Any, Literal, get_args

from sdar_envs.core import Task
from sdar_envs.errors import InvalidOption, check_choice
from sdar_envs.importing import import_extra
from sdar_envs.registry import count_tasks, env_creator, iter_tasks, make_text_env
from sdar_envs.secrets import check_no_secrets
from sdar_envs.storage import absolute_arguments, given_path, with_progress, write_atomic

__all__ = ["ROW_KEYS", "Layout", "task_rows", "to_parquet"]

ROW_KEYS = ("task_id", "env_id", "env_arguments", "suite", "split", "task_type", "instruction", "data_source")
"""Keys of the rows of `task_rows`."""

Layout = Literal["verl", "verl-agent"]
"""The trainer whose columns a Parquet file has."""

_BATCH = 1000


def task_rows(env_id: str, *, split: str, limit: int | None = None, **kwargs: Any) -> Iterator[dict[str, str]]:
    """Return an iterator over rows of a data set, one for each task of a split; each is made when it is asked for.

    A row has `task_id`; `env_id` and `env_arguments` (as JSON), which make the environment again; `suite`, `split`,
    `task_type` and `instruction`; and `data_source`, the data set of a question, else the suite. It never has what a
    player must not see: the data of a task hold golden answers and goals.

    Args:
        env_id: a registered id or `module:id`.
        split: the split's name.
        limit: only the first so many tasks; None for all, without end where the split has none.
        **kwargs: arguments of the environment; JSON values.

    Raises:
        InvalidOption: the limit is negative, or an argument is no JSON value or a secret.
        UnknownName: there is no such environment, split or argument.
    """
    check_no_secrets(kwargs, whose="argument")
    given = absolute_arguments(env_creator(env_id), kwargs)
    try:
        arguments = json.dumps(given, ensure_ascii=False)
    except TypeError as error:
        raise InvalidOption(
            f"the arguments {', '.join(kwargs)} cannot be written into a row ({error}): wanted JSON values, such as a "
            "retriever as module:name."
        ) from error
    return (_row(task, env_id, arguments) for task in iter_tasks(env_id, split=split, limit=limit, **kwargs))


def _row(task: Task, env_id: str, arguments: str) -> dict[str, str]:
    return {
        "task_id": task.id,
        "env_id": env_id,
        "env_arguments": arguments,
        "suite": task.suite,
        "split": task.split,
        "task_type": task.task_type,
        "instruction": task.instruction,
        "data_source": str(task.data.get("data_set") or task.suite),
    }


def to_parquet(
    path: str | PathLike[str],
    env_id: str,
    *,
    split: str,
    layout: Layout,
    limit: int | None = None,
    agent_name: str = "sdar",
    **kwargs: Any,
) -> int:
    """Write the tasks of a split to a Parquet file that a trainer reads.

    Both layouts have `data_source`, `prompt` (one user message: the instruction), `ability`, `reward_model` and
    `extra_info` (`index`, `split`, `task_id`, `task_type`). The golden answer in `reward_model` is empty: environments
    score. `verl` adds `agent_name`, which chooses the agent loop, and `env_id`, `task_id` and `env_arguments`.
    `verl-agent` adds `env_kwargs`, which its environments are reset with.

    Args:
        path: the file; an existing one is replaced.
        env_id: a registered id or `module:id`.
        split: the split's name.
        layout: `verl` or `verl-agent`.
        limit: only the first so many tasks; needed for a split without end.
        agent_name: of verl: `sdar` (windowed prompts) or `sdar_appended`.
        **kwargs: arguments of the environment.

    Returns:
        The number of rows.

    Raises:
        InvalidOption: an argument is out of range, or the split has no end and no limit was given.
        UnknownName: there is no such environment, split or argument.
        MissingExtra: pyarrow is not installed.
        OSError: the file cannot be written.
    """
    check_choice("layout", layout, get_args(Layout))
    arrow, parquet = (
        import_extra(name, extra="parquet", purpose="writing Parquet files") for name in ("pyarrow", "pyarrow.parquet")
    )
    env = make_text_env(env_id, split=split, **kwargs)
    total = count_tasks(env.source, env.split, limit)
    if not total:
        raise InvalidOption(f"limit is {limit}, and a file without rows is no data set: wanted at least 1.")
    rows = enumerate(task_rows(env_id, split=split, limit=total, **kwargs))
    columns = ({**_shared(row, index), **_own(row, layout, agent_name)} for index, row in rows)
    made = iter(with_progress(columns, f"rows of {env_id}", total=total, show_from=2 * _BATCH))
    sink = BytesIO()
    table = arrow.Table.from_pylist(list(islice(made, _BATCH)))
    with parquet.ParquetWriter(sink, table.schema) as writer:
        while table.num_rows:
            writer.write_table(table)
            table = arrow.Table.from_pylist(list(islice(made, _BATCH)), schema=table.schema)
    write_atomic(given_path(path), sink.getvalue())
    return total


def _shared(row: Mapping[str, str], index: int) -> dict[str, Any]:
    """Return the columns that both trainers read."""
    return {
        "data_source": row["data_source"],
        "prompt": [{"role": "user", "content": row["instruction"]}],
        "ability": "agent",
        "reward_model": {"style": "rule", "ground_truth": ""},
        "extra_info": {"index": index, **_some(row, "split", "task_id", "task_type")},
    }


def _own(row: Mapping[str, str], layout: Layout, agent_name: str) -> dict[str, Any]:
    """Return the columns that one trainer reads."""
    if layout == "verl":
        return {"agent_name": agent_name, **_some(row, "env_id", "task_id", "env_arguments")}
    # `question` and `task_name` are what its environment managers look for.
    named = {"question": row["instruction"], "task_name": row["suite"]}
    return {"env_kwargs": {**_some(row, "task_id", "data_source"), **named}}


def _some(row: Mapping[str, str], *names: str) -> dict[str, str]:
    return {name: row[name] for name in names}
