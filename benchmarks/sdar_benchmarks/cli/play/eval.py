"""`sdar eval`: an agent plays every task of a split; numbers are printed and, with `--out`, kept in a run folder."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdar_benchmarks.cli.options import Commands, add_environment, add_pairs, environment_arguments
from sdar_benchmarks.cli.output import say
from sdar_benchmarks.cli.play.skill_options import add_skill_options, skill_settings

if TYPE_CHECKING:
    from sdar_benchmarks.evaluation.evaluate import Evaluation, Tally
    from sdar_benchmarks.evaluation.panels import PanelSpec
    from sdar_benchmarks.evaluation.presets import PresetRun

__all__ = ["add", "add_run_options", "planned_runs", "play_run"]


def add(commands: Commands) -> None:
    """Add `sdar eval`."""
    command = commands.add_parser("eval", help="evaluate an agent on every task of a split")
    add_run_options(command)
    command.add_argument(
        "--preset",
        choices=["quick", "paper"],
        help="quick: smoke test; paper: the panels and sampling settings of SDAR's paper",
    )
    command.add_argument(
        "--skills-ablation",
        action="store_true",
        help="which skills help the model: run with all, with none, with shuffled ones, and without each; needs --out",
    )
    command.add_argument("--measure", choices=["success", "score"], help="of --skills-ablation (default: success)")
    command.set_defaults(run=_run, parser=command)


def add_run_options(command: argparse.ArgumentParser) -> None:
    """Add the options of a verb whose agent plays the tasks of a split: environment, agent, skills, limits, output."""
    add_environment(command, several=True)
    command.add_argument("--limit", type=int, metavar="N", help="only N tasks, a fixed sample (default: all)")
    command.add_argument("--seeds", type=int, default=1, metavar="K", help="play each task K times (default: 1)")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="the first seed (default: %(default)s)")
    command.add_argument("--concurrency", type=int, metavar="C", help="episodes in flight (default: the agent's)")
    command.add_argument(
        "--out", metavar="DIR", help="run folder: configuration, episodes, trajectories, summary, report"
    )
    command.add_argument(
        "--resume", action="store_true", help="resume the run in that folder; without an ENV_ID, as it was begun"
    )
    _add_agent(command)
    add_skill_options(command)
    group = command.add_argument_group("limits")
    group.add_argument("--max-turn-seconds", type=float, metavar="S", help="time limit of one turn of the agent")
    group.add_argument("--episode-seconds", type=float, metavar="S", help="time limit of an episode")
    group.add_argument(
        "--episode-tokens", type=int, metavar="N", help="token limit of an episode, prompts and completions"
    )
    group.add_argument(
        "--attempts", type=int, default=2, metavar="N", help="attempts at an episode that ends in an error"
    )
    command.set_defaults(recorded=None, preset=None, skills_ablation=False)


def _add_agent(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("agent")
    group.add_argument(
        "--agent", metavar="NAME", help="`sdar list` names them; module:Class for yours (default: the suite's script)"
    )
    options = [
        group.add_argument(
            "--model", metavar="NAME", help="openai: the model's name on the server; transformers: a folder, or smollm2"
        ),
        group.add_argument("--base-url", metavar="URL", help="openai: address up to /v1 (default: $OPENAI_BASE_URL)"),
        group.add_argument("--temperature", type=float, metavar="T", help="sampling temperature"),
        group.add_argument(
            "--max-tokens", type=int, metavar="N", help="token limit of a completion, its thought included"
        ),
        group.add_argument("--history-length", type=int, metavar="N", help="number of past turns in a prompt"),
        group.add_argument(
            "--action-format",
            choices=["tags", "json", "tools"],
            help="how a model gives its action: in tags, as a JSON object, or as a native tool call (default: tags)",
        ),
        group.add_argument("--price-prompt", type=float, metavar="X", help="price of a million prompt tokens"),
        group.add_argument("--price-completion", type=float, metavar="X", help="price of a million completion tokens"),
    ]
    help_ = "any setting of the agent, such as api_key_env=MY_KEY; may be repeated"
    add_pairs(group, "--agent-set", "agent_settings", help_)
    command.set_defaults(agent_options=tuple(option.dest for option in options))


def _run(args: argparse.Namespace) -> None:
    if not (args.env_ids or args.preset or args.resume):
        args.parser.error("name an environment, such as sdar/ALFWorld-v0, or give --preset quick")
    if args.skills_ablation and args.resume and not args.env_ids:
        args.parser.error("an ablation is several runs, which go on by its whole command line: add --resume to that")
    if args.measure is not None and not args.skills_ablation:
        args.parser.error("--measure says what an ablation compares: add --skills-ablation, or leave it out")
    from sdar_benchmarks.analysis.tables import overview
    from sdar_benchmarks.analysis.terminal import print_table, stdout
    from sdar_benchmarks.reports.report import REPORT_HTML, write_comparison, write_report
    from sdar_envs.errors import InvalidOption, RunStopped

    if args.resume and args.out is None:
        raise InvalidOption("--resume goes on with the run in a folder: name the folder with --out.")
    out = None if args.out is None else Path(args.out)
    if out is None and args.preset:
        out = Path("runs") / f"{args.preset}-{datetime.now():%Y%m%d-%H%M%S}"
    if args.resume and not (args.env_ids or args.preset):
        assert out is not None
        runs = [_recorded(args, out)]
    else:
        if args.resume:
            assert out is not None
            _enter(out, args)
        runs = planned_runs(args)
    if args.skills_ablation:
        from sdar_benchmarks.cli.play.ablation import play_ablation

        play_ablation(runs, args, out, play_run)
        return
    evaluations = [(run, play_run(run, args, out)) for run in runs]
    if len(runs) > 1:
        # Their reports hold the rest.
        print_table(overview((run.name, evaluation.summary) for run, evaluation in evaluations))
    else:
        _print_run(evaluations[0][1])
    for run, evaluation in evaluations:
        for line in evaluation.faults:
            stdout().print(f"{run.name}: {line}" if run.name else line)
    folders = [evaluation.folder for _, evaluation in evaluations if evaluation.folder]
    reports = [write_report(folder) for folder in folders]
    if out and len(folders) > 1:
        reports = [out / REPORT_HTML]
        write_comparison(folders, reports[0])
    for report in reports:
        say(f"report: {report}")
    errors = sum(evaluation.summary.total.errors for _, evaluation in evaluations if evaluation.summary.total)
    if errors:
        raise RunStopped(
            f"{errors} episodes ended in an error and count as failures"
            f"{'; --resume tries them again' if out else ': with --out, they can be tried again later'}."
        )


def _enter(out: Path, args: argparse.Namespace) -> None:
    """Check that there is a run to resume, and import objects of the user's own from where it was begun.

    Raises:
        MissingData: there is none.
    """
    from sdar_benchmarks.evaluation.presets import PRESETS
    from sdar_benchmarks.records.runs import CONFIG, enter_run
    from sdar_envs import ENV_IDS
    from sdar_envs.storage import check_run

    names = [run.name for run in PRESETS[args.preset](args.env_ids or ENV_IDS)] if args.preset else [""]
    if args.agent:
        names.append(args.agent)  # of a preset, whose agents it replaces
    if args.skills_ablation:
        from sdar_benchmarks.evaluation.ablation import ALL

        names = [ALL]
    begun = [out / name for name in names if (out / name / CONFIG).is_file()]
    if not begun:
        check_run(out, str(Path(names[0]) / CONFIG))
    enter_run(begun[0])


def _recorded(args: argparse.Namespace, out: Path) -> PresetRun:
    """Return a run as its configuration has it; seeds and limits of `args` become those of the run.

    Raises:
        MissingData: there is no run.
        InvalidOption: a setting is given that the run has already.
    """
    from sdar_agents.players.registry import MODELS
    from sdar_benchmarks.evaluation.panels import PanelSpec
    from sdar_benchmarks.evaluation.presets import PresetRun
    from sdar_benchmarks.records.runs import CONFIG, enter_run
    from sdar_envs.errors import InvalidOption
    from sdar_envs.importing import names_from

    fixed = ("limit", "agent", "agent_settings", "settings", "seeds", "seed", "max_turn_seconds", "episode_seconds")
    for name in (*fixed, "episode_tokens", *args.env_options, *args.agent_options, *args.skill_options):
        if getattr(args, name) not in (args.parser.get_default(name), None):
            raise InvalidOption(
                f"--{name.replace('_', '-')} was given with --resume and no environment: the run goes on as it was "
                "begun. Leave it out, or give the whole command line of the run."
            )
    config = enter_run(out)
    names_from(config, out / CONFIG)
    panels = []
    for panel in config["panels"]:
        env_kwargs = {name: value for name, value in panel["env_kwargs"].items() if name != "split"}
        only = None if panel.get("only") is None else tuple(panel["only"])
        panels.append(PanelSpec(panel["env_id"], panel["split"], panel["limit"], env_kwargs, only))
    args.recorded = config
    agent, settings = config["agent"]["name"], config["agent"]["settings"]
    # The scripts have no settings; those of `default` say which script plays what.
    return PresetRun("", tuple(panels), agent, settings if agent in MODELS or ":" in agent else {})


def planned_runs(args: argparse.Namespace) -> list[PresetRun]:
    """Return the runs of the preset, or the one run that the command line describes."""
    from sdar_agents import default_agent
    from sdar_agents.players.registry import MODELS
    from sdar_benchmarks.evaluation.panels import PanelSpec
    from sdar_benchmarks.evaluation.presets import PRESETS, PresetRun
    from sdar_envs import ENV_IDS

    env_ids: Sequence[str] = args.env_ids or ENV_IDS
    arguments = _by_environment(env_ids, environment_arguments(args))
    settings = dict(args.agent_settings)
    settings |= {name: getattr(args, name) for name in args.agent_options if getattr(args, name) is not None}
    shown = skill_settings(args)
    settings |= {} if shown is None else {"skills": shown}
    runs = [PresetRun("", tuple(PanelSpec(env_id) for env_id in env_ids))]
    if args.preset:
        runs = PRESETS[args.preset](env_ids)
    if args.agent and any(run.agent for run in runs):
        runs = [replace(runs[0], agent=args.agent, name=args.agent)]
    result = []
    for run in runs:
        script = default_agent(run.panels[0].env_id) if len(run.panels) == 1 else "default"
        agent = run.agent or args.agent or script
        # A preset's sampling settings are for models.
        chosen = {**run.settings, **settings} if agent in MODELS else settings
        panels = tuple(_asked_for(panel, args.limit, arguments[panel.env_id]) for panel in run.panels)
        result.append(PresetRun(run.name, panels, agent, chosen))
    return result


def _by_environment(env_ids: Sequence[str], given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the given arguments of each environment: of several environments, each gets those that it has.

    Raises:
        UnknownName: there is no such environment, or no environment has the argument.
    """
    from sdar_envs.errors import UnknownName, did_you_mean
    from sdar_envs.registry import env_arguments

    if len(env_ids) == 1:
        return {env_ids[0]: dict(given)}
    known = {env_id: env_arguments(env_id) for env_id in env_ids}
    names = sorted({name for defaults in known.values() for name in defaults})
    for name in given:
        if name not in names:
            raise UnknownName(
                f"none of {', '.join(known)} has an argument {name!r}; `sdar info` lists their arguments."
                f"{did_you_mean(name, names)}"
            )
    return {
        env_id: {name: value for name, value in given.items() if name in defaults} for env_id, defaults in known.items()
    }


def _asked_for(panel: PanelSpec, limit: int | None, arguments: Mapping[str, Any]) -> PanelSpec:
    """Return a panel with the limit, split and arguments of the command line."""
    env_kwargs = dict(arguments)
    split = env_kwargs.pop("split", panel.split)
    return replace(panel, split=split, limit=panel.limit if limit is None else limit, env_kwargs=env_kwargs)


def play_run(run: PresetRun, args: argparse.Namespace, out: Path | None) -> Evaluation:
    """Play a run, with a progress bar; its folder is `out` and the run's name."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    from sdar_agents import open_agent
    from sdar_benchmarks.cli.progress import progress_bar
    from sdar_benchmarks.evaluation.episodes import Limits
    from sdar_benchmarks.evaluation.evaluate import Plan, evaluate

    limits = Limits(args.max_turn_seconds, args.episode_seconds, args.episode_tokens, args.attempts)
    seeds: Sequence[int] = range(args.seed, args.seed + args.seeds)
    if args.recorded is not None:
        limits = replace(Limits(**args.recorded["limits"]), attempts=args.attempts)
        seeds = args.recorded["seeds"]
    plan = Plan(run.panels, seeds=seeds, limits=limits, concurrency=args.concurrency, command=args.typed)
    assert run.agent is not None
    agents = open_agent(run.agent, run.settings, [panel.env_id for panel in run.panels])
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[success]}", markup=False),
        TimeRemainingColumn(),
    )
    with progress_bar(*columns) as progress:
        bar = progress.add_task(run.agent, total=None, success="")
        said: set[str] = set()

        def show(tally: Tally) -> None:
            for each in tally.adaptations:
                if each["kind"] not in said:
                    said.add(each["kind"])
                    progress.console.print(f"Adapted: {each['text']}.", soft_wrap=True)
            progress.update(bar, completed=tally.done, total=tally.total, success=_success_so_far(tally))

        return evaluate(plan, agents, out=out / run.name if out else None, resume=args.resume, progress=show)


def _success_so_far(tally: Tally) -> str:
    """Return the success rate with its interval, as if each episode were of another task, and the errors."""
    from sdar_benchmarks.analysis.statistics import wilson_interval

    parts = []
    if tally.done:
        low, high = wilson_interval(tally.successes, tally.done)
        parts.append(f"won {tally.successes / tally.done:.1%} ({100 * low:.1f}-{100 * high:.1f})")
    if tally.errors:
        parts.append(f"errors {tally.errors}")
    return ", ".join(parts)


def _print_run(evaluation: Evaluation) -> None:
    from sdar_benchmarks.analysis.tables import panel_tables, panel_title
    from sdar_benchmarks.analysis.terminal import print_table, stdout

    summary = evaluation.summary
    for number, panel in enumerate(summary.panels):
        if number:
            say()
        stdout().print(panel_title(evaluation.config, panel))
        for table in panel_tables(panel):
            print_table(table)
        if panel.data_set_macro and len(panel.data_sets) > 1:
            macro = panel.data_set_macro
            stdout().print(f"mean over data sets: won {macro.success_rate:.1%}, score {macro.mean_score:.3f}")
    if summary.total and summary.macro and len(summary.panels) > 1:
        stdout().print(
            f"\nmean over panels: won {summary.macro.success_rate:.1%}, score {summary.macro.mean_score:.3f}; "
            f"over episodes: won {summary.total.success_rate:.1%}, score {summary.total.mean_score:.3f}"
        )
