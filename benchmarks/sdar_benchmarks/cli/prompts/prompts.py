"""`sdar prompts`: what a model reads, and prompts of other projects as style files."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from sdar_benchmarks.cli.options import Commands, add_settings
from sdar_benchmarks.cli.output import say

if TYPE_CHECKING:
    from sdar_envs import Task
    from sdar_envs.chat import Conversation

__all__ = ["add", "play_turns"]


def add(commands: Commands) -> None:
    """Add `sdar prompts` and its actions."""
    command = commands.add_parser("prompts", help="prompt styles: show, import")
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_show(actions)
    _add_import(actions)


def _add_show(actions: Commands) -> None:
    action = actions.add_parser("show", help="print the prompt of a turn, as a model reads it")
    action.add_argument("style", metavar="STYLE", help="a suite, default, verl-agent/alfworld, module:STYLE or a file")
    action.add_argument(
        "task_id", nargs="?", metavar="TASK_ID", help="such as alfworld/valid_unseen/0017 (default: a made-up one)"
    )
    action.add_argument("--env", metavar="ENV_ID", help="plays the task (default: that of its suite)")
    action.add_argument(
        "--turn", type=int, default=1, metavar="N", help="which turn, after a script's commands (default: %(default)s)"
    )
    action.add_argument("--history", choices=["windowed", "appended"], default="windowed")
    action.add_argument("--history-length", type=int, metavar="N", help="number of past turns (default: the style's)")
    action.add_argument("--action-format", choices=["tags", "json", "tools"], help="default: the style's")
    add_settings(action)
    action.set_defaults(run=_show)


def _add_import(actions: Commands) -> None:
    action = actions.add_parser("import", help="read the prompts of a clone of yours into a style file")
    action.add_argument("path", metavar="PATH", help="the clone, or one of its files; nothing of it is executed")
    action.add_argument(
        "--from", dest="project", required=True, choices=["verl-agent", "sdar", "search-r1"], help="whose prompts"
    )
    action.add_argument("--suite", metavar="NAME", help="alfworld, webshop or search_qa, where the clone holds several")
    action.add_argument("--out", required=True, metavar="FILE", help="a new .yaml file, for --agent-set style=FILE")
    action.set_defaults(run=_import)


def _import(args: argparse.Namespace) -> None:
    from sdar_envs.errors import InvalidOption
    from sdar_envs.prompt.originals import import_prompts
    from sdar_envs.storage import write_atomic

    target = Path(args.out)
    if target.suffix not in (".yaml", ".yml"):
        raise InvalidOption(f"--out is {args.out!r}; wanted a file that ends in .yaml.")
    if target.exists():
        raise InvalidOption(f"{target} exists: choose another name, or delete it.")
    style = import_prompts(Path(args.path), args.project, args.suite)
    try:
        write_atomic(target, style.to_yaml())
    except OSError as error:
        raise InvalidOption(f"{target} cannot be written ({error}): choose another file.") from error
    say(f"wrote {target}: the style of {style.suite}, from {', '.join(style.sources)}")


def _show(args: argparse.Namespace) -> None:
    from sdar_envs.errors import InvalidOption
    from sdar_envs.tools import tool_schemas

    if args.turn < 1:
        raise InvalidOption(f"--turn is {args.turn}; wanted a number from 1.")
    conversation = _made_up(args) if args.task_id is None else play_turns(args)[0]
    for message in conversation.messages():
        say(f"--- {message['role']}")
        say(message["content"])
    if conversation.tools:
        say("--- tools")
        say(json.dumps(tool_schemas(conversation.tools), indent=2, ensure_ascii=False))


def _made_up(args: argparse.Namespace) -> Conversation:
    """Return the chat of an invented episode."""
    from sdar_envs.chat import Conversation
    from sdar_envs.errors import InvalidOption
    from sdar_envs.prompt import ParsedCompletion, resolve_style, with_action_format

    if args.env is not None or args.settings:
        raise InvalidOption("--env and --set are for a task: name one behind the style.")
    conversation = Conversation(
        with_action_format(resolve_style(args.style), args.action_format),
        mode=args.history,
        history_length=args.history_length,
    )
    for turn in range(1, args.turn + 1):
        info = {"instruction": "(the task)", "admissible_commands": [f"(command {i})" for i in (1, 2)]}
        conversation.observe(f"(observation {turn})", info)
        if turn < args.turn:
            conversation.answer(ParsedCompletion(f"(action {turn})", True, ""), f"(completion {turn})")
    return conversation


def play_turns(args: argparse.Namespace) -> tuple[Conversation, Task]:
    """Return the chat of a task, after some commands of the suite's script, and the task.

    Args:
        args: with `task_id`, `env`, `settings`, `style`, `turn`, `history`, `history_length` and `action_format`, as
            `sdar prompts show` has them.
    """
    from sdar_agents.baselines.scripted import default_agent, make_agent
    from sdar_envs import ENV_IDS, ChatEpisode
    from sdar_envs.errors import InvalidOption, UnknownName
    from sdar_envs.registry import env_creator

    suite = args.task_id.partition("/")[0]
    env_id = args.env or next((name for name in ENV_IDS if getattr(env_creator(name), "suite", "") == suite), None)
    if env_id is None:
        raise UnknownName(f"no environment of this package has the suite {suite!r}: name one with --env.")
    episode = ChatEpisode(
        env_id,
        mode=args.history,
        history_length=args.history_length,
        style=args.style,
        action_format=args.action_format,
        **dict(args.settings),
    )
    try:
        step = episode.reset(task_id=args.task_id)
        script = make_agent(default_agent(env_id))
        script.reset(episode.env, step.observation, episode.env_info, 0)
        for turn in range(1, args.turn):
            step = episode.act(script.act(step.observation, episode.env_info))
            if step.is_over:
                raise InvalidOption(f"--turn is {args.turn}, but the script's episode is over after {turn}.")
        return episode.conversation, episode.env.task
    finally:
        episode.close()
