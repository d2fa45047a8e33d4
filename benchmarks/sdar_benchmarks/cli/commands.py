"""What the subcommands of `sdar` do. Tables and results go to standard output, all else to standard error."""

from __future__ import annotations

import argparse
import inspect
import json
import os
import sys
import textwrap
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import gymnasium as gym
from rich.console import Console

import sdar_envs
from sdar_agents import AGENTS
from sdar_agents.players.registry import MODELS
from sdar_benchmarks.analysis.terminal import WIDTH, plain_table, stdout
from sdar_benchmarks.cli.eval import compare_command, eval_command
from sdar_benchmarks.cli.index import index
from sdar_benchmarks.cli.play import Player, choose_reader
from sdar_benchmarks.cli.results import bench_command, leaderboard_command, report_command, view_command
from sdar_benchmarks.cli.skills import ACTIONS
from sdar_benchmarks.cli.train import study_command, train_command
from sdar_benchmarks.cli.warm_start import demos_command, sft_command
from sdar_benchmarks.evaluation.arguments import env_class, env_defaults, make_env
from sdar_envs import TextEnv
from sdar_envs.core import text_env
from sdar_envs.errors import InvalidOption, SdarError
from sdar_envs.serving import serve
from sdar_envs.webshop.env import WebShopEnv

__all__ = ["run"]


def run(args: argparse.Namespace) -> int:
    """Run a subcommand.

    Args:
        args: the parsed arguments. `command` names the subcommand, `env_options` the arguments that are
            the environment's; those of them that are None were not given.

    Returns:
        The exit status: 0, 1 if a check found something, 2 if something that was asked for cannot be done, 130 if
        interrupted.
    """
    commands: Mapping[str, Callable[[argparse.Namespace, Mapping[str, Any]], int | None]] = {
        "list": _list,
        "info": _info,
        "play": _play,
        "compare": compare_command,
        "eval": eval_command,
        "report": report_command,
        "view": view_command,
        "leaderboard": leaderboard_command,
        "bench": bench_command,
        "train": train_command,
        "study": study_command,
        "serve": _serve,
        "index": index,
        "skills": _skills,
        "demos": demos_command,
        "sft": sft_command,
    }
    env_kwargs = dict(getattr(args, "settings", []))
    env_kwargs |= {name: getattr(args, name) for name in args.env_options if getattr(args, name) is not None}
    try:
        status = commands[args.command](args, env_kwargs) or 0
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
    return status


def _list(args: argparse.Namespace, env_kwargs: Mapping[str, Any]) -> None:
    console = stdout()
    environments = plain_table("environment", "splits")
    for env_id in sdar_envs.ENV_IDS:
        environments.add_row(env_id, _splits(_text_env(env_id, {})))
    agents = plain_table("agent", "what it does")
    for name, agent in (*AGENTS.items(), *MODELS.items()):
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
            for part in textwrap.wrap(line, WIDTH - 2) or [""]:
                print(f"  {part}".rstrip())


def _play(args: argparse.Namespace, env_kwargs: Mapping[str, Any]) -> None:
    env = _text_env(args.env_id, env_kwargs)
    if args.task is not None and "split" not in env_kwargs:
        # The tasks that :new brings are to be like this one.
        env = _text_env(args.env_id, {**env_kwargs, "split": env.source.find(args.task).split})
    console = Console(highlight=False)
    Player(env, choose_reader(console), console).play(seed=args.seed, task_id=args.task)


def _serve(args: argparse.Namespace, env_kwargs: Mapping[str, Any]) -> None:
    try:
        name, start = _shop_site(args, env_kwargs) if args.server == "webshop" else _retriever_server(args)
        try:
            start(ready=lambda address: print(f"{name} at {address} (Ctrl-C stops it)", flush=True))
        except KeyboardInterrupt:
            # The only way to stop it is no failure.
            print("stopped", file=sys.stderr)
    except ModuleNotFoundError as error:
        raise InvalidOption(str(error)) from error


def _shop_site(args: argparse.Namespace, env_kwargs: Mapping[str, Any]) -> tuple[str, Callable[..., None]]:
    from sdar_envs.webshop.site.site import LONGEST_HEAD, create_app  # noqa: PLC0415

    env = make_env("sdar/WebShop-v0", env_kwargs).unwrapped
    assert isinstance(env, WebShopEnv)
    app = create_app(env.shop, env.source, quirks=env.quirks)
    return "WebShop", partial(serve, app, host=args.host, port=args.port, longest_head=LONGEST_HEAD)


def _retriever_server(args: argparse.Namespace) -> tuple[str, Callable[..., None]]:
    from sdar_envs.search_qa.retrieval.server import serve_retriever  # noqa: PLC0415

    if args.index is None:
        from sdar_envs.search_qa.embedded import embedded_retriever  # noqa: PLC0415

        retriever = embedded_retriever()
    else:
        from sdar_envs.search_qa.retrieval.index import open_index  # noqa: PLC0415

        retriever = open_index(args.index)
    return "Retriever", partial(serve_retriever, retriever, host=args.host, port=args.port, topk=args.topk)


def _skills(args: argparse.Namespace, env_kwargs: Mapping[str, Any]) -> int:
    return ACTIONS[args.action](args, env_kwargs)


def _text_env(env_id: str, env_kwargs: Mapping[str, Any]) -> TextEnv[Any]:
    return text_env(make_env(env_id, env_kwargs))


def _splits(env: TextEnv[Any]) -> str:
    return ", ".join(f"{name} ({'endless' if size is None else size})" for name, size in env.source.splits.items())


def _first_line(documented: object) -> str:
    return (inspect.getdoc(documented) or "").partition("\n")[0]
