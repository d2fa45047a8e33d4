"""`sdar skills trial`, `promote` and `retire`: skills are played against nothing, and judged by it."""

from __future__ import annotations

import argparse
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sdar_benchmarks.cli.options import Commands
from sdar_benchmarks.cli.output import say

if TYPE_CHECKING:
    from sdar_skills.evidence.trial import Verdict

__all__ = ["add"]


def add(actions: Commands) -> None:
    """Add the three actions."""
    from sdar_benchmarks.cli.play.eval import add_run_options

    action = actions.add_parser("trial", help="a model plays training tasks with each skill on trial, and without")
    add_run_options(action)
    action.add_argument(
        "--skill",
        dest="named",
        action="append",
        default=[],
        metavar="ID",
        help="only this skill (default: all on trial)",
    )
    action.add_argument(
        "--z",
        type=float,
        default=2.58,
        metavar="Z",
        help="half-width of the interval in standard errors; 3.3 for trials that are repeated (default: %(default)s)",
    )
    action.add_argument(
        "--min-tasks", type=int, default=30, metavar="N", help="fewer tasks decide nothing (default: %(default)s)"
    )
    action.set_defaults(run=_trial)
    for verb, status, words in (
        ("promote", "active", "make skills active that a trial found to help"),
        ("retire", "retired", "retire skills that a trial found to harm"),
    ):
        action = actions.add_parser(verb, help=words)
        action.add_argument("named", nargs="*", metavar="SKILL", help="ids (default: all for which the trial says so)")
        action.add_argument("--library", required=True, metavar="DIR", help="the folder whose files are changed")
        action.add_argument("--trial", metavar="OUT", help="the folder of the trial")
        action.add_argument("--why", metavar="TEXT", help="a reason, instead of a trial or against it")
        action.set_defaults(run=_decide, status=status)


def _trial(args: argparse.Namespace) -> None:
    from sdar_benchmarks.analysis.tables import TextTable
    from sdar_benchmarks.analysis.terminal import print_table
    from sdar_benchmarks.cli.play.eval import planned_runs, play_run
    from sdar_benchmarks.evaluation.trials import judge_trial, plan_trial
    from sdar_envs.errors import InvalidOption
    from sdar_skills.evidence.trial import TrialRule
    from sdar_skills.library.library import skill_files

    if not args.env_ids:
        whole = ", and give the whole command line of the trial to resume it" if args.resume else ""
        args.parser.error(f"name an environment, such as sdar/ALFWorld-v0{whole}")
    if args.out is None or not args.library:
        raise InvalidOption(
            "a trial is a folder of runs with the skills of a library: name both with --out and --library."
        )
    if args.skills not in (None, "task_type"):
        raise InvalidOption("a skill on trial is shown alone: leave out --skills.")
    args.skills = "task_type"
    rule = TrialRule(min_showings=args.min_tasks, max_showings=max(2_000, args.min_tasks), z=args.z)
    library = [skill for folder in args.library for skill in skill_files(Path(folder)).values()]
    runs = plan_trial(planned_runs(args)[0], library, args.named)
    out = Path(args.out)
    for run in (runs.control, *runs.shown.values()):
        play_run(run, args, out)
    verdicts = judge_trial(out, runs, rule)
    print_table(TextTable(("skill", "tasks", "difference", "verdict"), tuple(map(_cells, verdicts))))
    for verdict in verdicts:
        say(f"{verdict.skill.id}: {verdict.why}")
    changed = {verdict.status for verdict in verdicts if verdict.status != verdict.skill.status}
    for verb, status in (("promote", "active"), ("retire", "retired")):
        if status in changed:
            say(f"sdar skills {verb} --library {args.library[0]} --trial {out}")


def _cells(verdict: Verdict) -> tuple[str, ...]:
    difference = "-" if verdict.difference is None else f"{verdict.difference:+.3f}"
    same = verdict.status == verdict.skill.status
    return verdict.skill.id, str(verdict.showings), difference, f"stays {verdict.status}" if same else verdict.status


def _decide(args: argparse.Namespace) -> None:
    from sdar_benchmarks.evaluation.trials import read_verdicts
    from sdar_envs.errors import InvalidOption
    from sdar_skills.evidence.decisions import decide

    if args.trial is None and not (args.why and args.named):
        raise InvalidOption("wanted --trial OUT, or skills by their ids with --why TEXT.")
    verdicts = {} if args.trial is None else read_verdicts(Path(args.trial))
    names = args.named or [name for name, row in verdicts.items() if row["status"] == args.status != row.get("before")]
    if not names:
        raise InvalidOption(f"the trial in {args.trial} makes no skill {args.status}: its verdicts are in trial.json.")
    for name in dict.fromkeys(names):
        reason = args.why or _reason(args, name, verdicts)
        source = "" if args.trial is None else f", trial {Path(args.trial).resolve().name}"
        path, skill = decide(Path(args.library), name, args.status, f"{datetime.now():%Y-%m-%d}{source}: {reason}")
        say(f"{skill.id} is {skill.status}: {path}")


def _reason(args: argparse.Namespace, name: str, verdicts: dict[str, dict[str, str]]) -> str:
    """Return the trial's reason for the status.

    Raises:
        UnknownName: the trial has not judged the skill.
        InvalidOption: it has judged another text or version of it, or otherwise.
    """
    from sdar_envs.errors import InvalidOption, UnknownName, did_you_mean
    from sdar_skills.library.library import skill_files
    from sdar_skills.library.skill import arm_of

    if name not in verdicts:
        raise UnknownName(
            f"the trial in {args.trial} has not judged {name!r:.200}; it has judged {', '.join(verdicts)}."
            f"{did_you_mean(name, verdicts)}"
        )
    verdict = verdicts[name]
    skill = {skill.id: skill for skill in skill_files(Path(args.library)).values()}.get(name)
    if skill is not None and arm_of(skill) != (name, verdict["version"], verdict["sha256"]):
        raise InvalidOption(f"{name} has another text or version than the trial judged: try it again.")
    if verdict["status"] != args.status:
        raise InvalidOption(
            f"the trial leaves {name} {verdict['status']} ({verdict['why']}); to overrule it, give --why TEXT."
        )
    return verdict["why"]
