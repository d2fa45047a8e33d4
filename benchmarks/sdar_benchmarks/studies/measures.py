"""Measures of a study: success on a fixed panel, and the habit probe.

The habit probe is what the student knows of the home that it was trained in, without sampling: after the first
observation of a game and the words `Search: <thing>` of a thought, the mean probability of the furniture in which this
home keeps the thing. `with_skills` is the same with the skill in the prompt: whether the teacher reads it.

All arms are measured alike: with the right skills, also where a control shows others to the teacher of the training.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from sdar_agents.engines.policy import Policy
from sdar_agents.scoring.batch import make_batch
from sdar_agents.scoring.logprobs import score_rows
from sdar_agents.sft.thoughts import think
from sdar_agents.skill_use.prompts import SkillPrompts
from sdar_agents.skill_use.settings import make_skill_retriever, open_library
from sdar_agents.training.config import TrainConfig
from sdar_agents.training.evaluation import Evaluation
from sdar_agents.training.splits import evaluated_split
from sdar_agents.types import Row
from sdar_benchmarks.studies.design import MeasureSettings
from sdar_envs.alfworld.generator import room_habits
from sdar_envs.alfworld.instruction import read_instruction
from sdar_envs.errors import InvalidOption
from sdar_envs.prompt import prompt_parts, render_completion, style_of, terse
from sdar_envs.registry import make_text_env, sample_tasks
from sdar_skills import Ledger, Statistics, teacher_messages
from sdar_skills.retrieval.homes import home_skill

__all__ = ["CPU_SECONDS", "CellMeasure", "HabitProbe", "evaluate", "measure_start"]

CPU_SECONDS = "study/cpu_seconds"
"""Metric of a step: seconds of the processor, without what the study measures."""

_SEARCHED = 2_000


class HabitProbe:
    """Probe of what a policy knows about where a home keeps things, see the module.

    Args:
        config: of the training; its evaluation's tasks are in small rooms of ALFWorld.
        policy: whose chat template and tokens to use.
        prompts: for each thing.

    Attributes:
        things: number of things that are probed.

    Raises:
        InvalidOption: the tasks are not in small rooms, or a word is not tokenised by itself.
    """

    def __init__(self, config: TrainConfig, policy: Policy, *, prompts: int) -> None:
        rollout, source, split = evaluated_split(config.rollout, config.evaluation.env_kwargs, config.evaluation.split)
        size = source.splits[split]
        counts: Counter[tuple[str, str]] = Counter()
        env = make_text_env(rollout.env_id, **rollout.env_kwargs)
        self._rows: dict[str, list[tuple[Row, int]]] = {"plain": [], "with_skills": []}
        for task in sample_tasks(source, split, _SEARCHED if size is None else min(size, _SEARCHED)):
            layout = task.data.get("layout", "")
            if not layout.startswith("Small"):
                raise InvalidOption(
                    f"measures.probe is {prompts}, and {task.id} is not in a small room of ALFWorld: set it to 0."
                )
            thing = read_instruction(task.instruction).object_class
            place = room_habits(layout).get(thing)
            if place is None or counts[layout, thing] == prompts:
                continue
            counts[layout, thing] += 1
            observation, info = env.reset(options={"task_id": task.id})
            style = style_of(env, task)
            style = terse(style) if rollout.terse else style
            commands = info["admissible_commands"]
            shown = rollout.history_length
            parts = prompt_parts(style, info["instruction"], [], observation, commands, history_length=shown)
            action = next(command for command in commands if command.startswith("go to "))
            thought = think(task, [], observation, action, commands=commands, shown=shown)
            begin, searched, _ = render_completion(style, action, thought).partition(f"Search: {thing}")
            for name, skills in (("plain", ()), ("with_skills", (home_skill(task),))):
                text = policy.render(teacher_messages(parts, skills)) + begin + searched
                before, after = policy.encode(text), policy.encode(f"{text} {place}")
                if after[: len(before)] != before or len(after) == len(before):
                    raise InvalidOption(
                        f"the tokenizer does not split {f'{searched} {place}'!r} between its words, so there is no "
                        "probability of the second: set measures.probe to 0."
                    )
                row = Row(prompt_ids=before, response_ids=after[len(before) :])
                self._rows[name].append((row, len(after) - len(before)))
        env.close()
        self.things = len(counts)
        if not counts:
            raise InvalidOption(f"no task of {split!r} is about a thing that its home keeps somewhere: set probe to 0.")

    def measure(self, model: Any, ways: Sequence[str] = ("plain", "with_skills")) -> dict[str, float]:
        """Return the mean probability of the right furniture, `probe/plain` and `probe/with_skills`.

        Args:
            model: a Hugging Face causal language model.
            ways: which of the two.
        """
        found = {}
        for way in ways:
            batch = make_batch([row for row, _ in self._rows[way]], pad_id=0)
            scores = score_rows(model, batch.student, batch.mask, max_tokens=8192)
            chances = scores.logprobs.double().sum(dim=1).exp()
            found[f"probe/{way}"] = float(chances.mean())
        return found


def evaluate(
    config: TrainConfig, policy: Policy, ways: Sequence[str], progress: Callable[[str], None] = lambda _: None
) -> dict[str, float]:
    """Play the panel of a configuration.

    Args:
        config: its evaluation says panel, split and temperature.
        policy: who plays.
        ways: of `greedy`, `sampled`, `with_skills`.
        progress: called with what is being done.

    Returns:
        Success by way.
    """
    settings = replace(
        config.evaluation,
        every=1,
        greedy="greedy" in ways,
        sampled="sampled" in ways,
        with_skills="with_skills" in ways,
        best_by="eval/greedy/success" if "greedy" in ways or "sampled" not in ways else "eval/sampled/success",
    )
    evaluation = Evaluation(settings, config.rollout, policy, skills=_skills(config, policy))
    try:
        metrics, _ = evaluation.run(progress)
    finally:
        evaluation.close()
    return {way: metrics[f"eval/{way}/success"] for way in ways}


def _skills(config: TrainConfig, policy: Policy) -> SkillPrompts:
    """Return the skills that the teacher reads, without any control."""
    settings = config.skills
    retriever = make_skill_retriever(
        settings,
        open_library(settings),
        count_tokens=lambda text: len(policy.encode(text)),
        statistics=lambda: Statistics(Ledger(None)),
    )
    return SkillPrompts(retriever, placement=settings.placement, k=settings.k, skill_tokens=settings.skill_tokens)


def measure_start(
    config: TrainConfig,
    model: Any,
    policy: Policy,
    settings: MeasureSettings,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, float]:
    """Return what is known of a start: success by way of playing, and the probes.

    `start/sampled` is at the temperature of the training, `start/cool` at that of the evaluation.

    Args:
        config: of the baseline's training.
        model: the start.
        policy: around it.
        settings: see `MeasureSettings`.
        progress: called with what is being done.
    """
    cool = evaluate(config, policy, ("greedy", "sampled", "with_skills"), progress)
    hot = replace(config, evaluation=replace(config.evaluation, temperature=config.rollout.temperature))
    found = {f"start/{'cool' if way == 'sampled' else way}": rate for way, rate in cool.items()}
    found["start/sampled"] = evaluate(hot, policy, ("sampled",), progress)["sampled"]
    if settings.probe:
        progress("habit probe")
        found |= HabitProbe(config, policy, prompts=settings.probe).measure(model)
    return found


class CellMeasure:
    """What is measured in a training run of a study, for `Trainer(measure=...)`.

    Args:
        config: of the run.
        settings: see `MeasureSettings`.
        progress: called with the step and the steps of the run.
    """

    def __init__(
        self, config: TrainConfig, settings: MeasureSettings, progress: Callable[[int, int], None] = lambda *_: None
    ) -> None:
        self._config = config
        self._settings = settings
        self._progress = progress
        self._probe: HabitProbe | None = None
        self._since = time.process_time()

    def start_clock(self) -> None:
        """Begin to count the seconds of the next step."""
        self._since = time.process_time()

    def __call__(self, trainer: Any) -> Mapping[str, float]:
        """Return the metrics of the study after a step."""
        metrics = {CPU_SECONDS: time.process_time() - self._since} if trainer.step else {}
        settings, steps = self._settings, self._config.all_steps
        if settings.probe and (trainer.step % settings.probe_every == 0 or trainer.step == steps):
            if self._probe is None:
                self._probe = HabitProbe(self._config, trainer.policy, prompts=settings.probe)
            with torch.random.fork_rng(devices=[]):
                metrics |= self._probe.measure(trainer.model)
        if settings.is_evaluated(trainer.step, steps):
            ways = ("greedy", "sampled", "with_skills") if trainer.step == steps else ("greedy",)
            metrics |= {f"end/{way}": rate for way, rate in evaluate(self._config, trainer.policy, ways).items()}
        self._progress(trainer.step, steps)
        self.start_clock()
        assert all(map(math.isfinite, metrics.values()))
        return metrics
