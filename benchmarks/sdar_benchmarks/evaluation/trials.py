"""Paired trials of skills: runs in which a model reads one skill alone, beside a control in which it reads none."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from sdar_benchmarks.evaluation.panels import Panel
from sdar_benchmarks.evaluation.presets import PresetRun
from sdar_benchmarks.records.runs import Episode, final_episodes, read_episodes
from sdar_envs.errors import CorruptData, InvalidOption, MissingData, UnknownName, did_you_mean
from sdar_envs.files.json_text import read_json_object
from sdar_envs.storage import write_atomic
from sdar_skills import Ledger, Skill, Statistics
from sdar_skills.evidence.trial import TrialRule, Verdict, judge, paired_showings
from sdar_skills.library.skill import arm_of

__all__ = ["CONTROL", "LEDGER", "TRIAL", "TrialRuns", "judge_trial", "plan_trial", "read_verdicts"]

CONTROL, LEDGER, TRIAL = "control", "ledger.sqlite", "trial.json"
_SPLIT = "train"


class TrialRuns(NamedTuple):
    """Runs of a trial.

    Attributes:
        skills: the skills on trial.
        control: the run without skills.
        shown: the run with each skill alone, by its id.
    """

    skills: tuple[Skill, ...]
    control: PresetRun
    shown: Mapping[str, PresetRun]


def plan_trial(run: PresetRun, library: Sequence[Skill], named: Sequence[str] = ()) -> TrialRuns:
    """Return the skills on trial and the runs that try them, on tasks of the training split.

    Args:
        run: what to play, and the model; its settings have the section `skills`.
        library: the skills to choose from.
        named: ids of the skills on trial; if empty, all with status `shadow` of the suites that are played.

    Raises:
        UnknownName: there is no skill of a given name.
        InvalidOption: another split is asked for, there is nothing to try, or no task is of a skill's type.
    """
    for panel in run.panels:
        if panel.split not in (None, _SPLIT):
            raise InvalidOption(
                f"the split is {panel.split!r}; wanted {_SPLIT!r}: skills that were chosen on held-out tasks would "
                "make evaluations on these say too much."
            )
    panels = [replace(panel, split=_SPLIT) for panel in run.panels]
    tasks: dict[str, dict[str, tuple[str, str]]] = {}
    for spec in panels:
        with closing(Panel(spec)) as opened:
            tasks[spec.env_id] = {task.id: (task.suite, task.task_type) for task in opened}
    suites = sorted({suite for kinds in tasks.values() for suite, _ in kinds.values()})
    skills = _chosen(library, suites, named)

    def meant(skill: Skill) -> dict[str, tuple[str, ...]]:
        found = {
            env_id: tuple(
                task
                for task, (suite, kind) in kinds.items()
                if suite == skill.suite and skill.task_type in (None, kind)
            )
            for env_id, kinds in tasks.items()
        }
        if not any(found.values()):
            raise InvalidOption(
                f"none of the {sum(map(len, tasks.values()))} tasks is of the type of {skill.id}, {skill.task_type}: "
                "raise --limit, or try other skills."
            )
        return {env_id: ids for env_id, ids in found.items() if ids}

    by_skill = {skill.id: meant(skill) for skill in skills}
    everything = {
        env_id: tuple(task for task in kinds if any(task in by_env.get(env_id, ()) for by_env in by_skill.values()))
        for env_id, kinds in tasks.items()
    }

    def of(name: str, tasks_of: Mapping[str, tuple[str, ...]], **changes: Any) -> PresetRun:
        kept = tuple(replace(spec, only=tasks_of[spec.env_id]) for spec in panels if tasks_of.get(spec.env_id))
        return PresetRun(name, kept, run.agent, {**run.settings, "skills": {**run.settings["skills"], **changes}})

    shown = {
        skill_id: of(skill_id.replace("/", "-"), only, only=[skill_id], retriever="task_type", k=1)
        for skill_id, only in by_skill.items()
    }
    return TrialRuns(tuple(skills), of(CONTROL, everything, retriever="none"), shown)


def _chosen(library: Sequence[Skill], suites: Sequence[str], named: Sequence[str]) -> list[Skill]:
    known = {skill.id: skill for skill in library if skill.suite in suites}
    for name in named:
        if name not in known:
            raise UnknownName(
                f"the library has no skill {name!r:.200} for {', '.join(suites)}; it has {', '.join(known) or 'none'}."
                f"{did_you_mean(name, known)}"
            )
    chosen = [known[name] for name in dict.fromkeys(named)] or [s for s in known.values() if s.status == "shadow"]
    retired = [skill.id for skill in chosen if skill.status == "retired"]
    if retired:
        raise InvalidOption(f"{', '.join(retired)} is retired; a trial is of skills that are on trial or active.")
    if not chosen:
        raise InvalidOption(
            f"the library has no skill on trial for {', '.join(suites)}: propose some with `sdar skills propose`, or "
            "name active ones with --skill."
        )
    return chosen


def judge_trial(out: Path, runs: TrialRuns, rule: TrialRule) -> tuple[Verdict, ...]:
    """Judge a trial by its runs, and write its ledger and its verdicts.

    Args:
        out: the folder of the runs.
        runs: what `plan_trial` returned.
        rule: the decision rule.

    Raises:
        CorruptData: a run is damaged.
    """
    for path in out.glob(f"{LEDGER}*"):
        path.unlink()  # of an earlier judgement of the same runs
    control = final_episodes(read_episodes(out / CONTROL))
    with Ledger(out / LEDGER) as ledger:
        for skill in runs.skills:
            episodes = final_episodes(read_episodes(out / runs.shown[skill.id].name))
            for kind, rewards in _pairs(control, episodes):
                ledger.append(paired_showings(skill, kind, rewards, out.resolve().name))
        verdicts = judge(runs.skills, Statistics(ledger), rule)
    write_atomic(out / TRIAL, json.dumps({"verdicts": list(map(_row, verdicts))}, indent=1, ensure_ascii=False) + "\n")
    return verdicts


def _pairs(
    control: Sequence[Episode], shown: Sequence[Episode]
) -> Iterator[tuple[str, dict[str, tuple[float, float]]]]:
    """Yield by task type the mean scores of each task, without and with the skill, over the seeds that both have."""
    without = {episode.key: episode for episode in control}
    scores: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for episode in shown:
        other = without.get(episode.key)
        if other is not None and "error" not in (episode.status, other.status):
            scores[episode.task_type][episode.task_id].append((float(other.is_success), float(episode.is_success)))
    for kind, tasks in sorted(scores.items()):
        yield (
            kind,
            {
                task: (sum(a for a, _ in pairs) / len(pairs), sum(b for _, b in pairs) / len(pairs))
                for task, pairs in tasks.items()
            },
        )


def _row(verdict: Verdict) -> dict[str, Any]:
    arm = arm_of(verdict.skill)
    return {
        **arm._asdict(),
        "status": verdict.status,
        "before": verdict.skill.status,
        "tasks": verdict.showings,
        "difference": verdict.difference,
        "error": verdict.error,
        "why": verdict.why,
    }


def read_verdicts(out: Path) -> dict[str, dict[str, Any]]:
    """Return the verdicts of a trial by skill id.

    Raises:
        MissingData: the folder is no trial.
        CorruptData: it is damaged.
    """
    path = out / TRIAL
    if not path.is_file():
        raise MissingData(f"{out} has no {TRIAL}; wanted the folder that `sdar skills trial --out` has written.")
    rows = read_json_object(path).get("verdicts")
    names = ("skill", "version", "sha256", "status", "why")
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and all(isinstance(row.get(name), str) for name in names) for row in rows
    ):
        raise CorruptData(f"{path} is no list of verdicts: judge the trial again with --resume.")
    return {row["skill"]: row for row in rows}
