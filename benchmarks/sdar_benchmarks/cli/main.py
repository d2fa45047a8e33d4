"""The command line of `sdar`: environments, evaluation, reports, skills and servers.

This module only reads arguments, so that `sdar --help` answers at once; `commands` does the work. Arguments
of environments are passed on by name, whatever they are: the environment says what it accepts.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run `sdar`.

    Args:
        argv: the arguments after the program's name; None for those of the process.

    Returns:
        The exit status: 0; 1 if a check found something; 2 if something that was asked for cannot be done.
    """
    parser = _parser()
    args, rest = parser.parse_known_args(argv)
    if args.command in ("train", "study"):
        args.overrides = rest
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    args.argv = list(sys.argv[1:] if argv is None else argv)
    if args.command == "eval" and not (args.env_ids or args.preset):
        parser.error("eval: name an environment, such as sdar/ALFWorld-v0, or give --preset quick")
    try:
        # Imported here: help, version and misspelt options should not wait for Gymnasium.
        from sdar_benchmarks.cli.commands import run  # noqa: PLC0415
    except KeyboardInterrupt:
        return 130
    return run(args)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sdar", description="Text environments for language agents.")
    parser.add_argument("--version", action="version", version=f"sdar-envs {version('sdar-envs')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    command = commands.add_parser("list", help="environments, their splits, and agents")
    command.set_defaults(env_options=())

    command = commands.add_parser("info", help="what an environment takes and gives, with an example")
    _add_env(command)
    command.add_argument("--task", metavar="ID", help="print this task as JSON")

    command = commands.add_parser("play", help="play in the terminal")
    _add_env(command)
    command.add_argument("--task", metavar="ID", help="play this task")
    command.add_argument("--seed", type=int, metavar="N", help="choose the first task (default: any)")

    command = commands.add_parser("eval", help="let an agent play every task of a split")
    _add_env(command, several=True)
    _add_evaluation(command)

    command = commands.add_parser("compare", help="how two runs differ, task by task")
    command.add_argument("run_a", metavar="RUN_A", help="folder of a run")
    command.add_argument("run_b", metavar="RUN_B", help="folder of another run on the same tasks")
    command.set_defaults(env_options=())

    command = commands.add_parser("report", help="write report.html of a run, or one of several side by side")
    command.add_argument("runs", nargs="+", metavar="RUN", help="a run folder")
    command.add_argument("--out", metavar="FILE", help="of several runs (default: comparison.html)")
    command.set_defaults(env_options=())

    command = commands.add_parser("view", help="browse the episodes of a run")
    command.add_argument("run", metavar="RUN", help="a run folder; the run may still be going on")
    command.add_argument("--host", default="127.0.0.1", metavar="NAME", help="listen there (default: %(default)s)")
    command.add_argument("--port", type=int, default=3030, metavar="N", help="0: any (default: %(default)s)")
    command.set_defaults(env_options=())

    command = commands.add_parser("leaderboard", help="results as records, and the tables that are made of them")
    command.set_defaults(env_options=())
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("commands", help="print what makes the rows of the scripted agents")
    action = actions.add_parser("add", help="make records of finished runs")
    action.add_argument("runs", nargs="+", metavar="RUN", help="a run folder")
    action.add_argument("--replace", action="store_true", help="replace records of the same agent and panel")
    _add_root(action)
    action = actions.add_parser("render", help="make LEADERBOARD.md and the table in README.md")
    action.add_argument("--check", action="store_true", help="write nothing, fail if they are not current")
    _add_root(action)

    command = commands.add_parser(
        "train",
        help="train a model by GRPO, OPSD, RLSD, Skill-SD, SDAR, ...",
        epilog="Any setting may follow by its path, such as --learner.lr 3e-6 --rollout.env_kwargs.max_steps 20.",
        allow_abbrev=False,
    )
    command.add_argument("--config", metavar="NAME", help="a file, or the name of a configuration of this package")
    command.add_argument("--list", action="store_true", help="name the configurations of this package")
    command.add_argument("--method", metavar="NAME", help="such as grpo, sdar (default: the configuration's)")
    command.add_argument("--out", metavar="DIR", help="the run's folder (default: runs/CONFIG-METHOD-SEED)")
    command.add_argument("--resume", metavar="RUN", help="go on with the run in this folder")
    command.set_defaults(env_options=())

    command = commands.add_parser(
        "study",
        help="demonstrations, a tiny model, GRPO and SDAR from one checkpoint, a report; goes on where it stopped",
        epilog="Any setting of the training may follow by its path, such as --steps 5 --learner.lr 3e-5.",
        allow_abbrev=False,
    )
    command.add_argument("--out", default="runs/tiny", metavar="DIR", help="its folder (default: %(default)s)")
    command.add_argument("--model", default="tiny-1m", metavar="NAME", help="or tiny-5m (default: %(default)s)")
    command.add_argument("--episodes", type=int, default=1800, metavar="N", help="demonstrated (default: %(default)s)")
    command.add_argument(
        "--readings", type=int, default=8000, metavar="N", help="first turns with skills besides (default: %(default)s)"
    )
    command.add_argument("--methods", default="grpo,sdar", metavar="A,B", help="to compare (default: %(default)s)")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="the first seed (default: %(default)s)")
    command.add_argument(
        "--seeds", type=int, default=1, metavar="N", help="how many; more can follow later (default: %(default)s)"
    )
    command.add_argument("--jobs", type=int, default=2, metavar="N", help="trainings at a time (default: %(default)s)")
    command.set_defaults(env_options=())

    command = commands.add_parser("bench", help="measure speed and memory of environments, skills, generation, trainer")
    command.add_argument("envs", nargs="*", metavar="ENV_ID", help="only these (default: all)")
    command.add_argument("--output", metavar="FILE", help="write a record as JSON")
    command.add_argument("--baseline", metavar="FILE", help="an older record: print how many times better this is")
    command.set_defaults(env_options=())

    command = commands.add_parser("serve", help="open a server: the shop in the browser, or passages for Search-QA")
    servers = command.add_subparsers(dest="server", required=True, metavar="SERVER")

    command = servers.add_parser("webshop", help="the shop of sdar/WebShop-v0 as a web site")
    _add_address(command, port=3000)
    group = command.add_argument_group("environment")
    options = [
        group.add_argument("--data", metavar="NAME", help="embedded or official (default: embedded)"),
        group.add_argument("--data-dir", metavar="DIR", help="folder of the official data"),
        group.add_argument("--goals", metavar="NAME", help="synthetic or human (default: synthetic)"),
        group.add_argument("--quirks", metavar="NAME", help="original or fixed (default: original)"),
        group.add_argument("--num-products", type=int, metavar="N", help="only the first N records (default: all)"),
    ]
    command.set_defaults(env_options=tuple(option.dest for option in options))

    command = servers.add_parser("retriever", help="POST /retrieve, for clients of Search-R1, verl, SDAR, verl-agent")
    _add_address(command, port=8000)
    command.add_argument("--index", metavar="DIR", help="made by `sdar index build` (default: the embedded facts)")
    command.add_argument(
        "--topk", type=int, default=3, metavar="N", help="passages where a request does not say (default: %(default)s)"
    )
    command.set_defaults(env_options=())

    _add_index(commands.add_parser("index", help="make passages searchable, and search them"))

    command = commands.add_parser("skills", help="what teachers may read: list, search, check, import, export, stats")
    command.set_defaults(env_options=())
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_skills(actions)
    _add_skills_stats(actions)

    command = commands.add_parser("demos", help="let an expert play and write what a model can be fine-tuned on")
    _add_env(command)
    _add_demos(command)

    command = commands.add_parser("sft", help="fine-tune a model on demonstrations")
    command.set_defaults(env_options=())
    _add_sft(command)
    return parser


def _add_demos(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--out", required=True, metavar="FILE", help="JSON Lines: messages and completion of each turn"
    )
    command.add_argument("--overwrite", action="store_true", help="replace the file if it exists")
    command.add_argument("--episodes", type=int, metavar="N", help="how many (default: 100)")
    command.add_argument("--first", type=int, metavar="N", help="number of the first task (default: 0)")
    command.add_argument("--expert", metavar="NAME", help="who plays (default: the environment's own script)")
    command.add_argument("--guesses", action="store_true", help="ALFWorld's explorer knows places only from skills")
    command.add_argument(
        "--noise", type=float, metavar="X", help="share of other commands than the expert's (default: 0)"
    )
    command.add_argument(
        "--with-skills", type=float, metavar="X", help="share of episodes with skills in the prompt (default: 0)"
    )
    command.add_argument("--retriever", metavar="NAME", help="chooses the skills (default: task_type)")
    command.add_argument("-k", type=int, metavar="N", help="skills at most (default: 1)")
    command.add_argument("--turns", type=int, metavar="N", help="only the first N turns of an episode (default: all)")
    command.add_argument("--history-length", type=int, metavar="N", help="past turns in a prompt (default: 2)")
    command.add_argument("--terse", action="store_true", help="prompts without role and answer format, for tiny models")
    command.add_argument("--seed", type=int, metavar="N", help="of all draws (default: 0)")


def _add_sft(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "model", metavar="MODEL", help="a folder, a name on the hub, or tiny-1m or tiny-5m: made from nothing"
    )
    command.add_argument("demos", nargs="+", metavar="FILE", help="what `sdar demos` wrote")
    command.add_argument("--out", required=True, metavar="DIR", help="a new folder; it gets model/ and sft.jsonl")
    command.add_argument(
        "--validation",
        action="append",
        default=[],
        metavar="FILE",
        help="rows of other tasks, whose loss is measured and not learnt; may be repeated",
    )
    command.add_argument("--resume", action="store_true", help="go on with the run in that folder")
    command.add_argument("--device", metavar="NAME", help="such as cuda or cpu (default: CUDA, if any)")
    command.add_argument(
        "--set",
        dest="sft_settings",
        type=_setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of sdar_agents.sft.sft.SFTSettings, such as lr=3e-5; may be repeated",
    )


def _add_root(action: argparse.ArgumentParser) -> None:
    action.add_argument("--root", default=".", metavar="DIR", help="the repository (default: the current folder)")


def _add_skills(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommands of `sdar skills`."""
    action = actions.add_parser("list", help="all skills, or those of a suite")
    action.add_argument("--suite", metavar="NAME", help="only this suite, such as alfworld")
    _add_library(action)

    action = actions.add_parser("show", help="one skill as a SKILL.md file")
    action.add_argument("skill", metavar="SKILL", help="its id, such as alfworld/carry-one-thing")
    _add_library(action)

    action = actions.add_parser("search", help="skills that share words with a text")
    action.add_argument("words", nargs="+", metavar="WORD")
    action.add_argument("--suite", metavar="NAME", help="only this suite")
    action.add_argument("-k", type=int, default=5, metavar="N", help="how many at most (default: %(default)s)")
    _add_library(action)

    action = actions.add_parser("check", help="what each task gets, and what is missing; status 1 if something is")
    action.add_argument("--suite", required=True, metavar="NAME", help="such as alfworld")
    action.add_argument("--limit", type=int, metavar="N", help="only the first N tasks of the split (default: all)")
    action.add_argument(
        "--strategy", action="append", metavar="NAME", help="may be repeated (default: all, embedding with --encoder)"
    )
    action.add_argument("--ledger", metavar="FILE", help="what ucb, thompson and hybrid know (default: nothing yet)")
    action.add_argument("--encoder", metavar="NAME", help="model of sentence-transformers, for embedding")
    action.add_argument("-k", type=int, default=6, metavar="N", help="skills for a task (default: %(default)s)")
    action.add_argument("--summary", action="store_true", help="do not print the tasks one by one")
    _add_library(action)
    options = [
        action.add_argument("--split", metavar="NAME", help="part of the tasks (default: the environment's)"),
        action.add_argument("--data", metavar="NAME", help="where tasks come from, such as official"),
        action.add_argument("--data-dir", metavar="DIR", help="folder of the official data"),
    ]
    action.set_defaults(env_options=tuple(option.dest for option in options))

    action = actions.add_parser("import", help="make SKILL.md files of another collection")
    action.add_argument("source", metavar="PATH", help="a folder with skill_mapping.json (sdar), or a file (skillrl)")
    action.add_argument("--format", choices=["sdar", "skillrl"], required=True)
    action.add_argument("--suite", required=True, metavar="NAME", help="what the skills are for, such as alfworld")
    action.add_argument(
        "--output", required=True, metavar="DIR", help="where the files go: DIR/<suite>/<name>/SKILL.md"
    )
    action.add_argument(
        "--task-type",
        type=_translation,
        action="append",
        default=[],
        metavar="THEIRS=OURS",
        help="what a kind of task in the source is here, or general; may be repeated",
    )

    action = actions.add_parser("export", help="write the active skills of a suite in another format")
    action.add_argument("target", metavar="PATH", help="a new folder (sdar) or file (skillrl)")
    action.add_argument("--format", choices=["sdar", "skillrl"], required=True)
    action.add_argument("--suite", required=True, metavar="NAME", help="which skills")
    _add_library(action)


def _add_library(action: argparse.ArgumentParser) -> None:
    action.add_argument(
        "--library", action="append", default=[], metavar="DIR", help="a folder of skills, too; may be repeated"
    )
    action.add_argument("--no-builtin", action="store_true", help="without the skills of this package")


def _translation(text: str) -> tuple[str, str]:
    theirs, equals, ours = text.partition("=")
    if not (theirs and equals and ours):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form THEIRS=OURS, such as comparison=compare")
    return theirs, ours


def _add_address(command: argparse.ArgumentParser, *, port: int) -> None:
    command.add_argument("--host", default="127.0.0.1", metavar="NAME", help="listen there (default: %(default)s)")
    command.add_argument("--port", type=int, default=port, metavar="N", help="0: any (default: %(default)s)")


def _add_index(command: argparse.ArgumentParser) -> None:
    command.set_defaults(env_options=())
    commands = command.add_subparsers(dest="index_command", required=True, metavar="COMMAND")

    build = commands.add_parser("build", help="index a corpus file into a new folder")
    build.add_argument(
        "corpus", metavar="CORPUS", help="JSON Lines with id and contents, or id, title and text; or .gz"
    )
    build.add_argument("--out", required=True, metavar="DIR", help="the folder; it appears when the index is complete")
    build.add_argument(
        "--engine", default="bm25", metavar="NAME", help="bm25, bm25s, tantivy or faiss (default: %(default)s)"
    )
    build.add_argument("--overwrite", action="store_true", help="replace the index if it exists")
    group = build.add_argument_group("faiss")
    group.add_argument("--encoder", metavar="NAME", help="model of sentence-transformers, such as intfloat/e5-base-v2")
    group.add_argument("--query-prefix", default="query: ", metavar="TEXT", help="goes before a query (default: E5's)")
    group.add_argument(
        "--passage-prefix", default="passage: ", metavar="TEXT", help="goes before a passage (default: E5's)"
    )
    group.add_argument("--factory", metavar="NAME", help="kind of index, such as IVF4096,SQ8 (default: Flat)")

    search = commands.add_parser("search", help="print the best passages for a query")
    search.add_argument("index", metavar="DIR", help="what `sdar index build` made")
    search.add_argument("query", metavar="QUERY", help="any text")
    search.add_argument("-k", type=int, default=3, metavar="N", help="how many passages (default: %(default)s)")


def _add_skills_stats(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    action = actions.add_parser("stats", help="how the skills of a ledger did, by task type")
    action.add_argument("ledger", metavar="LEDGER", help="the file that a run has written")
    action.add_argument("--suite", metavar="NAME", help="only this suite, such as alfworld")
    action.add_argument("--task-type", metavar="NAME", help="only this kind of task")
    action.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _setting(text: str) -> tuple[str, Any]:
    """Read `NAME=VALUE`; the value is JSON if it can be read as such, else the text itself."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE, such as goals=human")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _add_evaluation(command: argparse.ArgumentParser) -> None:
    """Add what `eval` takes besides the environments' arguments."""
    command.add_argument(
        "--preset", choices=["quick", "paper"], help="quick: see that all works; paper: SDAR's panels and sampling"
    )
    command.add_argument("--limit", type=int, metavar="N", help="only the first N tasks (default: all)")
    command.add_argument("--seeds", type=int, default=1, metavar="K", help="play each task K times (default: 1)")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="the first seed (default: %(default)s)")
    command.add_argument("--concurrency", type=int, metavar="C", help="episodes in flight (default: the agent's)")
    command.add_argument("--out", metavar="DIR", help="keep configuration, episodes, trajectories and numbers there")
    command.add_argument("--resume", action="store_true", help="go on with the run in that folder")
    group = command.add_argument_group("agent")
    group.add_argument(
        "--agent", metavar="NAME", help="`sdar list` names them; module:Class for yours (default: the suite's script)"
    )
    options = [
        group.add_argument(
            "--model", metavar="NAME", help="openai: as the server knows it; transformers: folder or name"
        ),
        group.add_argument(
            "--base-url", metavar="URL", help="openai: the address up to /v1 (default: $OPENAI_BASE_URL)"
        ),
        group.add_argument("--temperature", type=float, metavar="T", help="of the sampling"),
        group.add_argument("--max-tokens", type=int, metavar="N", help="of one completion"),
        group.add_argument("--history-length", type=int, metavar="N", help="past turns that a prompt shows"),
        group.add_argument("--price-prompt", type=float, metavar="X", help="of a million tokens read"),
        group.add_argument("--price-completion", type=float, metavar="X", help="of a million tokens written"),
    ]
    group.add_argument(
        "--agent-set",
        dest="agent_settings",
        type=_setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any setting of the agent, such as api_key_env=MY_KEY; may be repeated",
    )
    command.set_defaults(agent_options=tuple(option.dest for option in options))
    group = command.add_argument_group("limits")
    group.add_argument("--max-turn-seconds", type=float, metavar="S", help="for one decision of the agent")
    group.add_argument("--episode-seconds", type=float, metavar="S", help="for an episode")
    group.add_argument("--episode-tokens", type=int, metavar="N", help="read and written in an episode")
    group.add_argument("--attempts", type=int, default=2, metavar="N", help="at an episode that fails by an error")


def _add_env(command: argparse.ArgumentParser, *, several: bool = False) -> None:
    """Add the environment's id and its arguments; not giving one leaves it to the environment."""
    text = "such as sdar/ALFWorld-v0; `sdar list` names them"
    if several:
        command.add_argument("env_ids", nargs="*", metavar="ENV_ID", help=text)
    else:
        command.add_argument("env_id", metavar="ENV_ID", help=text)
    group = command.add_argument_group("environment")
    group.add_argument(
        "--set",
        dest="settings",
        type=_setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any argument of the environment (`sdar info` names them), such as goals=human; may be repeated",
    )
    options = [
        group.add_argument("--split", metavar="NAME", help="part of the tasks (default: the environment's)"),
        group.add_argument("--data", metavar="NAME", help="where tasks come from, such as official"),
        group.add_argument("--data-dir", metavar="DIR", help="folder of the official data"),
        group.add_argument(
            "--wording", metavar="NAME", help="ALFWorld: the release whose commands are spoken, such as put"
        ),
        group.add_argument("--max-steps", type=int, metavar="N", help="steps in an episode"),
    ]
    command.set_defaults(env_options=tuple(option.dest for option in options))
