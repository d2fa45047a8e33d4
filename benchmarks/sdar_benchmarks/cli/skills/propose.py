"""`sdar skills propose`: skills on trial, drawn from the training episodes of a run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from sdar_benchmarks.cli.options import Commands, setting
from sdar_benchmarks.cli.output import say

if TYPE_CHECKING:
    from sdar_skills.evidence.experience import Proposer

__all__ = ["add"]


def add(actions: Commands) -> None:
    """Add `sdar skills propose`."""
    action = actions.add_parser("propose", help="write skills on trial, drawn from the training episodes of runs")
    action.add_argument(
        "runs", nargs="+", metavar="RUN", help="folder of an evaluation on --split train, or of a training run"
    )
    action.add_argument(
        "--library", required=True, metavar="DIR", help="where they are written: DIR/<suite>/<name>/SKILL.md"
    )
    action.add_argument(
        "--model",
        metavar="NAME",
        help="a model behind an endpoint writes them (default: a template, from the shortest success)",
    )
    action.add_argument(
        "--base-url", metavar="URL", help="address of the endpoint, up to /v1 (default: $OPENAI_BASE_URL)"
    )
    action.add_argument(
        "--model-set",
        dest="model_settings",
        type=setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any setting of the endpoint, such as api_key_env=MY_KEY; may be repeated",
    )
    action.add_argument(
        "--max-skills", type=int, default=3, metavar="N", help="of a model, for each task type (default: %(default)s)"
    )
    action.add_argument(
        "--max-similarity",
        type=float,
        default=0.8,
        metavar="X",
        help="drop what shares more of its terms with a skill that exists, 0 to 1 (default: %(default)s)",
    )
    action.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    from sdar_benchmarks.evaluation.training_episodes import read_training_episodes
    from sdar_skills import save_skill
    from sdar_skills.evidence.experience import propose
    from sdar_skills.library.library import builtin_skills, skill_files

    proposer = _proposer(args)
    folder = Path(args.library)
    known = list(builtin_skills())
    if any(folder.rglob("SKILL.md")):
        known += skill_files(folder).values()
    episodes = [episode for run in args.runs for episode in read_training_episodes(Path(run))]
    found = propose(episodes, proposer, known, max_similarity=args.max_similarity)
    for title, why in found.dropped:
        say(f"dropped: {title}: {why}", error=True)
    for skill in found.skills:
        say(save_skill(skill, folder))
    won = sum(episode.is_success for episode in episodes)
    say(
        f"{len(found.skills)} skills on trial from {len(episodes)} episodes, {won} of them solved; "
        "`sdar skills trial` plays them."
    )


def _proposer(args: argparse.Namespace) -> Proposer:
    from sdar_agents.engines.servers.endpoint import endpoint_chat
    from sdar_envs.errors import InvalidOption
    from sdar_skills.evidence.proposers import ModelProposer, TemplateProposer

    settings = dict(args.model_settings)
    if args.base_url is not None:
        settings["base_url"] = args.base_url
    if args.model is None:
        if settings:
            raise InvalidOption(f"{', '.join(settings)} is of a model, and none is named: add --model.")
        return TemplateProposer()
    try:
        chat = endpoint_chat(args.model, **settings)
    except TypeError as error:
        raise InvalidOption(f"--model-set gives a setting that no endpoint has: {error}.") from error
    return ModelProposer(chat, args.model, max_skills=args.max_skills)
