"""`sdar skills import` and `export`: skills in the formats of SDAR and SkillRL."""

from __future__ import annotations

import argparse
from pathlib import Path

from sdar_benchmarks.cli.options import Commands
from sdar_benchmarks.cli.output import say
from sdar_benchmarks.cli.skills.libraries import add_library, read_library

__all__ = ["add"]


def add(actions: Commands) -> None:
    """Add both actions."""
    action = actions.add_parser("import", help="import a collection of another format as SKILL.md files")
    action.add_argument("source", metavar="PATH", help="a folder with skill_mapping.json (sdar), or a file (skillrl)")
    action.add_argument("--format", choices=["sdar", "skillrl"], required=True)
    action.add_argument("--suite", required=True, metavar="NAME", help="suite of the skills, such as alfworld")
    action.add_argument("--output", required=True, metavar="DIR", help="output folder: DIR/<suite>/<name>/SKILL.md")
    action.add_argument(
        "--task-type",
        type=_translation,
        action="append",
        default=[],
        metavar="THEIRS=OURS",
        help="map a task type of the source to one of ours, or to general; may be repeated",
    )
    action.set_defaults(run=_import)

    action = actions.add_parser("export", help="write the active skills of a suite in another format")
    action.add_argument("target", metavar="PATH", help="a new folder (sdar) or file (skillrl)")
    action.add_argument("--format", choices=["sdar", "skillrl"], required=True)
    action.add_argument("--suite", required=True, metavar="NAME", help="which skills")
    add_library(action)
    action.set_defaults(run=_export)


def _translation(text: str) -> tuple[str, str]:
    theirs, equals, ours = text.partition("=")
    if not (theirs and equals and ours):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form THEIRS=OURS, such as comparison=compare")
    return theirs, ours


def _import(args: argparse.Namespace) -> None:
    from sdar_skills import Library, save_skill
    from sdar_skills.formats import FORMATS

    imported = FORMATS[args.format].read(Path(args.source), args.suite, dict(args.task_type))
    for line in imported.report:
        say(line, error=True)
    told = Library(imported.skills).uncovered_words(args.suite)
    if told:
        say(f"not covered: {told}", error=True)
    for skill in imported.skills:
        say(save_skill(skill, args.output))


def _export(args: argparse.Namespace) -> None:
    from sdar_skills.formats import FORMATS

    library = read_library(args)
    skills = library.select(args.suite, strict=True)
    report = FORMATS[args.format].write(skills, Path(args.target))
    others = library.select(args.suite, {"shadow", "retired"})
    for line in (*report, *(f"left out: {skill.id}, which is {skill.status}" for skill in others)):
        say(line, error=True)
    say(f"wrote {len(skills)} skills to {args.target}")
