"""What the subcommands of `sdar` do. Tables and results go to standard output, all else to standard error."""

from __future__ import annotations

import argparse
import inspect
import json
import os
import sys
import textwrap
from collections.abc import Callable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import gymnasium as gym
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

import sdar_envs
from sdar_agents import AGENTS, default_agent
from sdar_benchmarks.arguments import env_class, env_defaults, make_env
from sdar_benchmarks.evaluate import Evaluation, Summary, check_output, evaluate, save
from sdar_benchmarks.play import Player, choose_reader
from sdar_benchmarks.skills_stats import COLUMNS, cells, statistics_rows
from sdar_envs import TextEnv
from sdar_envs.core import text_env
from sdar_envs.errors import InvalidOption, SdarError
from sdar_envs.webshop.env import WebShopEnv

__all__ = ["run"]

_WIDTH = 100


def run(args: argparse.Namespace) -> int:
    """Run a subcommand.

    Args:
        args: the parsed arguments. `command` names the subcommand, `env_options` the arguments that are
            the environment's; those of them that are None were not given.

    Returns:
        The exit status: 0, 2 if something that was asked for cannot be done, 130 if interrupted.
    """
    commands: Mapping[str, Callable[[argparse.Namespace, Mapping[str, Any]], None]] = {
        "list": _list,
        "info": _info,
        "play": _play,
        "eval": _eval,
        "serve": _serve,
        "skills": _skills,
    }
    env_kwargs = dict(getattr(args, "settings", []))
    env_kwargs |= {name: getattr(args, name) for name in args.env_options if getattr(args, name) is not None}
    try:
        commands[args.command](args, env_kwargs)
        sys.stdout.flush()
    except (SdarError, gym.error.Error) as error:
        # An error is one line, whatever its message is made of.
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader has left (`sdar list | head -1`). Python would complain when it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"error: the output cannot be written ({error})", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    return 0


def _list(args: argparse.Namespace, env_kwargs: Mapping[str, Any]) -> None:
    console = _stdout()
    environments = _table("environment", "splits")
    for env_id in sdar_envs.ENV_IDS:
        environments.add_row(env_id, _splits(_text_env(env_id, {})))
    agents = _table("agent", "what it does")
    for name, agent in AGENTS.items():
        agents.add_row(name, _first_line(agent))
    console.print(environments)
    console.print()
    console.print(agents)


def _info(args: argparse.Namespace, env_kwargs: Mapping[str, Any]) -> None:
    env = _text_env(args.env_id, env_kwargs)
    if args.task is not None:
        print(json.dumps(env.source.find(args.task).to_json(), indent=2, ensure_ascii=False))
        return
    observation, info = env.reset(seed=0)
    arguments = [f"{name}={default!r}" for name, default in env_defaults(args.env_id).items()]
    print(args.env_id)
    print(_first_line(env_class(args.env_id)))
    for title, lines in (
        ("Spaces", [f"observation {env.observation_space}", f"action {env.action_space}"]),
        ("Arguments", arguments),
        ("Splits", [_splits(env)]),
        (f"Example: {info['task_id']} ({info['task_type']})", observation.splitlines()),
    ):
        print(f"\n{title}")
        for line in lines:
            for part in textwrap.wrap(line, _WIDTH - 2) or [""]:
                print(f"  {part}".rstrip())


def _play(args: argparse.Namespace, env_kwargs: Mapping[str, Any]) -> None:
    env = _text_env(args.env_id, env_kwargs)
    if args.task is not None and "split" not in env_kwargs:
        # The tasks that :new brings are to be like this one.
        env = _text_env(args.env_id, {**env_kwargs, "split": env.source.find(args.task).split})
    console = Console(highlight=False)
    Player(env, choose_reader(console), console).play(seed=args.seed, task_id=args.task)


def _eval(args: argparse.Namespace, env_kwargs: Mapping[str, Any]) -> None:
    output = None if args.output is None else Path(args.output)
    if output is not None:
        check_output(output, overwrite=args.overwrite)
    agent = args.agent or default_agent(args.env_id)
    env_kwargs = {"split": getattr(env_class(args.env_id), "evaluation_split", "test"), **env_kwargs}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    stderr = Console(stderr=True)
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
        bar = progress.add_task(agent, total=None)
        evaluation = evaluate(
            args.env_id,
            agent,
            split=env_kwargs["split"],
            limit=args.limit,
            seed=args.seed,
            env_kwargs=env_kwargs,
            progress=lambda done, total: progress.update(bar, completed=done, total=total),
        )
    _print_evaluation(evaluation)
    if output is not None:
        save(evaluation, output, overwrite=args.overwrite)
        print(f"wrote {output}", file=sys.stderr)


def _serve(args: argparse.Namespace, env_kwargs: Mapping[str, Any]) -> None:
    try:
        from sdar_envs.webshop.site import create_app, serve  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise InvalidOption(str(error)) from error
    env = make_env("sdar/WebShop-v0", env_kwargs).unwrapped
    assert isinstance(env, WebShopEnv)
    app = create_app(env.shop, env.source, quirks=env.quirks)

    def say(address: str) -> None:
        print(f"WebShop at {address} (Ctrl-C stops it)", flush=True)

    try:
        serve(app, host=args.host, port=args.port, ready=say)
    except ModuleNotFoundError as error:
        raise InvalidOption(str(error)) from error
    except KeyboardInterrupt:
        # The only way to stop it is no failure.
        print("stopped", file=sys.stderr)


def _skills(args: argparse.Namespace, env_kwargs: Mapping[str, Any]) -> None:
    actions: Mapping[str, Callable[[argparse.Namespace], None]] = {"stats": _skills_stats}
    actions[args.action](args)


def _skills_stats(args: argparse.Namespace) -> None:
    rows = statistics_rows(Path(args.ledger), args.suite, args.task_type)
    if args.json:
        print(json.dumps([row._asdict() for row in rows], indent=2, ensure_ascii=False))
        return
    console = _stdout()
    for number, ((suite, task_type), group) in enumerate(groupby(rows, key=lambda row: (row.suite, row.task_type))):
        table = _table(*COLUMNS)
        for row in group:
            table.add_row(*cells(row))
        for column in table.columns[1:]:
            column.justify = "right"
            column.min_width = max(len(str(cell)) for cell in (column.header, *column.cells))
        console.print(f"{chr(10) * (number > 0)}{suite}, {task_type}")
        console.print(table)


def _print_evaluation(evaluation: Evaluation) -> None:
    console = _stdout()
    table = _table("task type", "n", "won", "95 % CI", "score", "steps", "if won", "invalid")
    rows = {**evaluation.task_types, "all": evaluation.total}
    for name, summary in rows.items():
        table.add_row(name, *_cells(summary), style="bold" if name == "all" else None)
    for column in table.columns[1:]:
        column.justify = "right"
        # In a narrow terminal the names give way, not the numbers.
        column.min_width = max(len(str(cell)) for cell in column.cells)
    config = evaluation.config
    console.print(f"{config.agent} on {config.env_id}, split {config.split}, seed {config.seed}")
    console.print(table)


def _cells(summary: Summary) -> tuple[str, ...]:
    low, high = summary.success_interval
    return (
        str(summary.episodes),
        f"{summary.success_rate:.1%}",
        f"{100 * low:.1f}-{100 * high:.1f}",
        f"{summary.mean_score:.3f}",
        f"{summary.mean_steps:.1f}",
        "-" if summary.mean_steps_won is None else f"{summary.mean_steps_won:.1f}",
        f"{summary.invalid_share:.1%}",
    )


def _stdout() -> Console:
    console = Console(highlight=False, markup=False, emoji=False)
    # A pipe has no width of its own.
    console.width = min(console.width, _WIDTH) if console.is_terminal else _WIDTH
    return console


def _table(*columns: str) -> Table:
    """Make a table without lines: it reads as well from a pipe, and fits into 80 columns."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, no_wrap=column == columns[0])
    return table


def _text_env(env_id: str, env_kwargs: Mapping[str, Any]) -> TextEnv[Any]:
    return text_env(make_env(env_id, env_kwargs))


def _splits(env: TextEnv[Any]) -> str:
    return ", ".join(f"{name} ({'endless' if size is None else size})" for name, size in env.source.splits.items())


def _first_line(documented: object) -> str:
    return (inspect.getdoc(documented) or "").partition("\n")[0]
