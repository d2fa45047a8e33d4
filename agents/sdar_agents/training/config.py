"""Configuration of a training run: frozen dataclasses, each default written once.

    config = load_config("alfworld_sdar_tiny", ["--method", "grpo", "--learner.lr", "3e-6"])

A file is YAML with the fields of `TrainConfig`; `algorithm` holds settings that every method has, `methods` those of
single methods, of which only the chosen one's count. Misspelt names, wrong types and values out of range are errors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from sdar_agents.algorithms import SUITES, Algorithm, Preset, find_algorithm, make_algorithm
from sdar_agents.configs import config_names, config_text, recipe_names, recipe_parts
from sdar_agents.contexts.registry import LIBRARY
from sdar_agents.engines.smollm2 import SMOLLM2
from sdar_agents.learner.controls import TeacherControl
from sdar_agents.learner.settings import LearnerSettings
from sdar_agents.rollout.settings import RolloutSettings
from sdar_agents.settings.checks import absolute_paths, check_settings, path_setting, setting
from sdar_agents.settings.reader import build, errors_at, merge, parse_overrides, read_yaml, to_plain
from sdar_agents.skill_use.settings import SkillSource, absolute_skills
from sdar_agents.training.checks.compatibility import (
    check_context,
    check_control,
    check_history,
    check_old_logprobs,
    check_scores,
    check_staleness,
)
from sdar_agents.training.controls import EXTRA_STEPS, Control, parse_control
from sdar_envs.errors import InvalidOption, MissingData, UnknownName, did_you_mean
from sdar_envs.importing import import_named, is_import_path, names_from
from sdar_envs.registry import env_creator, suite_of
from sdar_envs.storage import absolute_arguments

__all__ = [
    "AnalystSettings",
    "CheckpointSettings",
    "ContextSettings",
    "EvaluationSettings",
    "LogSettings",
    "LoraSettings",
    "ModelSettings",
    "SkillSettings",
    "TrainConfig",
    "changed_settings",
    "load_config",
    "make_config",
]

Tracker = Literal["none", "tensorboard", "trackio", "wandb"]


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """Low-rank adapters (LoRA) that are trained instead of all weights; needs the extra `lora`.

    Attributes:
        rank: of an adapter.
        alpha: an adapter is scaled by `alpha / rank`.
        targets: names of the layers that get an adapter, separated by commas; `all-linear` is all but the head.
        blocks: only those in the last so many blocks of the transformer; null for all. Gradients end at the first of
            them, which makes a step cheaper.
    """

    rank: int = setting(32, low=1)
    alpha: int = setting(64, low=1)
    targets: str = "all-linear"
    blocks: int | None = setting(None, low=1)

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """Model to train: weights, device, adapters, chat template, inference engine.

    Attributes:
        path: a folder, which may hold LoRA adapters to be merged; a name on the Hugging Face hub; or `smollm2`.
        dtype: of the weights. With float32, `learner.autocast` still computes in bfloat16.
        device: such as `cuda`; null for `cuda` if there is one, else `cpu`.
        lora: see `LoraSettings`; null trains all weights.
        template_options: for the chat template, such as `{enable_thinking: false}`.
        max_batch_tokens: tokens of a generation batch of the engine `transformers`, padding included.
        engine: inference engine of the rollouts: `transformers`, `vllm`, or `module:Class` of your own, which gets the
            model that is trained (`sdar_agents.engines.make_engine`).
        engine_options: keyword arguments of the engine.
        generation_dtype: of a copy of the weights that the engine generates with, such as `bfloat16`, which saves the
            casts of `learner.autocast` at each token; null generates with the trained weights themselves, and in a run
            of several processes with a copy of their type. The loss corrects for the difference
            (`GRPO.sampler_cap`).
        generation_autocast: compute in bfloat16 while generating with the trained weights themselves; null is what
            `learner.autocast` says. False with `learner.autocast` is a rollout in float32 and an update in bfloat16.
    """

    path: str = path_setting(names=(SMOLLM2,))
    dtype: Literal["float32", "bfloat16", "float64"] = "float32"
    device: str | None = None
    lora: LoraSettings | None = None
    template_options: Mapping[str, Any] = field(default_factory=dict)
    max_batch_tokens: int = setting(1 << 17, low=1)
    engine: str = "transformers"
    engine_options: Mapping[str, Any] = field(default_factory=dict)
    generation_dtype: Literal["float32", "bfloat16", "float64"] | None = None
    generation_autocast: bool | None = None

    def __post_init__(self) -> None:
        check_settings(self)
        if self.generation_autocast is not None and self.engine != "transformers":
            raise InvalidOption(
                f"generation_autocast is {self.generation_autocast}, and the engine is {self.engine}, which has a type "
                "of its own: leave it out."
            )
        if self.generation_autocast and self.generation_dtype not in (None, "float32"):
            raise InvalidOption(
                f"generation_autocast is true, and generation_dtype {self.generation_dtype}: leave out one of them."
            )
        if self.engine == "vllm" and self.generation_dtype is not None:
            raise InvalidOption(
                f"generation_dtype is {self.generation_dtype}, and the engine vllm has weights of its own: leave it "
                "null, and set dtype in engine_options."
            )


@dataclass(frozen=True, kw_only=True)
class SkillSettings(SkillSource):
    """Skills in the teacher's prompt (or the student's, if the method says so): source, retriever, limits.

    Attributes:
        varied: choose again for each member of a group.
        control_members: so many members of each group are shown nothing.
        mixed: all other members of a group play with skills in the student's prompt, and the teacher reads each turn's
            prompt of the other branch (UCOB's rollout).
        gamma: discount of the statistics that bandits learn from, per step.
    """

    varied: bool = False
    control_members: int = setting(0, low=0)
    mixed: bool = False
    gamma: float = setting(0.99, low=0, high=1)


@dataclass(frozen=True, kw_only=True)
class AnalystSettings:
    """The model that a context may ask: the policy itself, or one behind an OpenAI-compatible endpoint.

    Attributes:
        model: its name, as the server knows it; null for the policy, with the weights of the rollout.
        max_new_tokens: limit of an answer.
        temperature: of the sampling, above 0.
        concurrency: requests to the endpoint in flight at most.
        options: further arguments of `sdar_agents.engines.servers.endpoint.Endpoint`, such as
            `{base_url: ..., retries: 3}`. The key comes from an environment variable (`api_key_env`).
    """

    model: str | None = None
    max_new_tokens: int = setting(1024, low=1)
    temperature: float = setting(1.0, above=0)
    concurrency: int = setting(8, low=1)
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_settings(self)
        if self.model is None and self.options:
            raise InvalidOption(f"options is {dict(self.options)!r:.80}, and model is null: they are for an endpoint.")


@dataclass(frozen=True, kw_only=True)
class ContextSettings:
    """Context of the teacher: the skill library, or one that is made after play.

    Attributes:
        name: `library`, another of `sdar_agents.contexts.CONTEXTS`, or `module:Class` of your own.
        options: of the context, such as `{turns: 1}`.
        max_prompt_tokens: limit of a teacher's prompt with a context that is made after play; null is what the model's
            context leaves.
        analyst: see `AnalystSettings`.
    """

    name: str = LIBRARY
    options: Mapping[str, Any] = field(default_factory=dict)
    max_prompt_tokens: int | None = setting(None, low=1)
    analyst: AnalystSettings = field(default_factory=AnalystSettings)

    def __post_init__(self) -> None:
        check_settings(self)
        if self.name == LIBRARY and self.options:
            raise InvalidOption(
                f"options is {dict(self.options)!r:.80}, and the context is {LIBRARY}, whose settings are in skills."
            )

    @property
    def is_after_play(self) -> bool:
        """Whether it is made from finished groups of episodes."""
        return self.name != LIBRARY


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """Held-out evaluation on a fixed panel: a sample of a split, with the same random draws every time.

    Attributes:
        every: evaluate after each so many steps, and after the last; 0 for never.
        at_start: evaluate before the first step too.
        starts: a folder that runs share: an evaluation before the first step is kept there, and taken by runs with the
            same weights and panel that are evaluated in the same way; null to evaluate in each run.
        split: of the panel's tasks, also given to environments that have an argument `split`; null is that of
            `evaluation.env_kwargs`, else the environment's `evaluation_split`, else its only split.
        tasks: size of the panel; 0 for none.
        env_kwargs: of the environment, on top of those of the rollout.
        temperature: of the sampled evaluation.
        greedy: evaluate greedy decoding.
        sampled: evaluate sampling.
        with_skills: evaluate greedy decoding with skills in the prompt, as a diagnostic; left out if the library has no
            skills for the suite.
        with_context: evaluate greedy decoding with the teacher's context in the prompt, as a diagnostic; for contexts
            after play that are of the task, such as `sibling` and `reflection`.
        context_group: episodes of each task that such a context is made from, sampled as in training.
        seed: of the draws.
        best_by: the metric by which the best checkpoint is kept.
    """

    every: int = setting(5, low=0)
    at_start: bool = True
    starts: str | None = path_setting(None)
    split: str | None = None
    tasks: int = setting(64, low=0)
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    temperature: float = setting(0.4, low=0)
    greedy: bool = True
    sampled: bool = True
    with_skills: bool = True
    with_context: bool = True
    context_group: int = setting(4, low=1)
    seed: int = setting(0, low=0)
    best_by: Literal["eval/greedy/success", "eval/sampled/success"] = "eval/greedy/success"

    def __post_init__(self) -> None:
        check_settings(self)
        ways = {"eval/greedy/success": self.greedy, "eval/sampled/success": self.sampled}
        if any(ways.values()) and not ways[self.best_by]:
            other = next(name for name, is_on in ways.items() if is_on)
            raise InvalidOption(f"best_by is {self.best_by}, which this evaluation leaves out: set it to {other}.")
        if self.sampled and not self.temperature:
            raise InvalidOption(
                "temperature is 0, and the sampled evaluation needs one above it: set sampled to false, the greedy "
                "evaluation is another."
            )


@dataclass(frozen=True, kw_only=True)
class CheckpointSettings:
    """When checkpoints are written, and how many are kept.

    Attributes:
        every: write one after each so many steps, and after the last; 0 for after the last only.
        keep: so many of the latest are kept, and the best.
    """

    every: int = setting(10, low=0)
    keep: int = setting(2, low=1)

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class LogSettings:
    """Logging: experiment tracker, trajectories, progress bar. `metrics.jsonl` is always written.

    Attributes:
        tracker: gets the metrics too.
        project: for wandb and trackio.
        trajectories_every: write trajectories for `sdar view` in each so many steps; 0 for none.
        trajectory_groups: of so many groups (tasks) of such a step; null for all.
        progress: show a progress bar, on a terminal.
    """

    tracker: Tracker = "tensorboard"
    project: str = "sdar"
    trajectories_every: int = setting(10, low=0)
    trajectory_groups: int | None = setting(2, low=1)
    progress: bool = True

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of a training run.

    Attributes:
        model: see `ModelSettings`.
        rollout: see `RolloutSettings`.
        method: one of `ALGORITHMS`, or `module:Class` of your own.
        preset: of the method.
        suite: whose coefficients the preset has: one of `SUITES`; null for the environment's own suite. An environment
            of another suite must name the one whose rewards are like its own.
        algorithm: settings that override the preset's.
        methods: settings by method; those of the chosen one count, under `algorithm`'s.
        seed: of the tasks, the sampling, the order of the episodes.
        steps: of the run.
        split: of the training tasks, also given to environments that have an argument `split`; null is that of
            `rollout.env_kwargs`, else `train`, else the only split of an environment that has one.
        train_tasks: only so many of its tasks, `sdar_envs.registry.sample_indices`; null for all.
        tasks_per_step: different tasks in a step.
        group_size: episodes of each task.
        max_staleness: 0: episodes are sampled from the weights after the step before. 1: from those after the step
            before that, while the learner takes that step, for engines in other processes. The loss corrects for it
            (`GRPO.sampler_cap`); each token keeps the version of its weights.
        skills: see `SkillSettings`.
        context: see `ContextSettings`.
        control: a negative control, one of `sdar_agents.training.controls.CONTROLS`; null for none.
        learner: see `LearnerSettings`.
        evaluation: see `EvaluationSettings`.
        checkpoints: see `CheckpointSettings`.
        log: see `LogSettings`.
    """

    model: ModelSettings
    rollout: RolloutSettings
    method: str = "sdar"
    preset: Preset = "default"
    suite: str | None = None
    algorithm: Mapping[str, Any] = field(default_factory=dict)
    methods: Mapping[str, Any] = field(default_factory=dict)
    seed: int = setting(0, low=0)
    steps: int = setting(150, low=1)
    split: str | None = None
    train_tasks: int | None = setting(None, low=1)
    tasks_per_step: int = setting(16, low=1)
    group_size: int = setting(8, low=1)
    max_staleness: int = setting(0, low=0, high=1)
    skills: SkillSettings = field(default_factory=SkillSettings)
    context: ContextSettings = field(default_factory=ContextSettings)
    control: str | None = None
    learner: LearnerSettings = field(default_factory=LearnerSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    checkpoints: CheckpointSettings = field(default_factory=CheckpointSettings)
    log: LogSettings = field(default_factory=LogSettings)

    def __post_init__(self) -> None:
        check_settings(self)
        if self.rollout.greedy:
            raise InvalidOption("rollout.greedy is true: all members of a group would do the same. Leave it out.")
        if self.suite is not None and self.suite not in SUITES:
            raise UnknownName(
                f"suite is {self.suite!r}; wanted null or one of {', '.join(SUITES)}.{did_you_mean(self.suite, SUITES)}"
            )
        for name, given in self.methods.items():
            if not isinstance(given, Mapping):
                raise InvalidOption(f"methods.{name} is {given!r}; wanted a section with settings.")
            # Of any suite: only what is given is checked here.
            with errors_at("methods"):
                method = find_algorithm(name)
            with errors_at(f"methods.{name}", method):
                make_algorithm(name, preset=self.preset, suite=next(iter(SUITES)), **given)
        algorithm = self.make_algorithm()
        shows = algorithm.needs_teacher or algorithm.student_sees_skills
        if shows and self.skills.control_members >= self.group_size:
            raise InvalidOption(
                f"skills.control_members is {self.skills.control_members} in groups of {self.group_size}; wanted fewer."
            )
        check_context(self, algorithm)
        check_control(self, algorithm)
        check_history(self, algorithm)
        check_old_logprobs(self)
        check_scores(self, algorithm)
        check_staleness(self, algorithm)

    @property
    def casts_generation(self) -> bool:
        """Whether the engine `transformers` generates under autocast."""
        if self.model.generation_autocast is not None:
            return self.model.generation_autocast
        return self.learner.autocast and self.model.generation_dtype in (None, "float32")

    @property
    def parsed_control(self) -> Control | None:
        """The control; None without one."""
        return None if self.control is None else parse_control(self.control)

    @property
    def loss_control(self) -> TeacherControl | None:
        """The control, if it is one of the loss."""
        name = None if self.control is None else parse_control(self.control).name
        return next((control for control in get_args(TeacherControl) if control == name), None)

    @property
    def all_steps(self) -> int:
        """Steps of the run, with those that the control `extra-steps` adds."""
        control = self.parsed_control
        extra = control.value if control is not None and control.name == EXTRA_STEPS else 0.0
        return math.ceil(round(self.steps * (1.0 + extra), 6))

    def make_algorithm(self) -> Algorithm:
        """Return the method with its settings.

        Raises:
            UnknownName: there is no such method or setting, or no preset for the environment's suite.
            InvalidOption: a setting has a wrong type or is out of range, or the environment declares no suite.
        """
        settings = {**self.methods.get(self.method, {}), **self.algorithm}
        if settings.get("aggregation") == "seq-mean-token-sum-norm":
            settings.setdefault("response_limit", self.rollout.max_new_tokens)
        with errors_at("rollout.env_id"):
            suite = suite_of(self.rollout.env_id) if self.suite is None else self.suite
        with errors_at("method"):
            method = find_algorithm(self.method)
        with errors_at("algorithm", method):
            return make_algorithm(self.method, preset=self.preset, suite=suite, **settings)

    def resolved(self) -> TrainConfig:
        """Return the configuration with every setting of its method written out, and its paths absolute.

        So it means the same in every working directory. Paths among the arguments of the environment and among the
        options of an engine or retriever of one's own are those that its class names in `path_arguments`.
        """
        config = absolute_paths(self)
        env = env_creator(config.rollout.env_id)
        model, rollout, skills, evaluation = config.model, config.rollout, config.skills, config.evaluation
        learner = config.learner
        teacher_options = _absolute_options(learner.teacher_model or "", learner.teacher_options, "a teacher")
        return replace(
            config,
            model=replace(model, engine_options=_absolute_options(model.engine, model.engine_options, "an engine")),
            rollout=replace(rollout, env_kwargs=absolute_arguments(env, rollout.env_kwargs)),
            skills=absolute_skills(skills),
            context=replace(
                config.context, options=_absolute_options(config.context.name, config.context.options, "a context")
            ),
            evaluation=replace(evaluation, env_kwargs=absolute_arguments(env, evaluation.env_kwargs)),
            learner=replace(
                learner, teacher_options=teacher_options, teacher_control=self.loss_control or learner.teacher_control
            ),
            algorithm=to_plain(self.make_algorithm()),
            methods={},
        )

    def to_yaml(self) -> str:
        """Return the configuration as YAML, which `load_config` reads."""
        text: str = yaml.safe_dump(to_plain(self), sort_keys=False, allow_unicode=True)
        return text


def _absolute_options(name: str, options: Mapping[str, Any], what: str) -> Mapping[str, Any]:
    """Return the options of an object of one's own with its paths absolute; those of others have none."""
    return absolute_arguments(import_named(name, what=what), options) if is_import_path(name) else options


def load_config(name: str, overrides: Sequence[str] = ()) -> TrainConfig:
    """Load a configuration file.

    What it names as `module:name` (a method, environment, reward function, engine, retriever, prompt style) is
    imported, which runs the code of that module; each is told on standard error before.

    Args:
        name: a path, or one of `config_names()` and `recipe_names()`.
        overrides: `--a.b value` or `--a.b=value`, on top of the file.

    Raises:
        MissingData: there is no such file.
        CorruptData: the file is not YAML.
        UnknownName: there is no such setting.
        InvalidOption: a value cannot be used.
    """
    if name in config_names():
        given = read_yaml(config_text(name), name)
    elif name in recipe_names():
        given = {}
        for part in recipe_parts(name):
            given = merge(given, part)
    else:
        try:
            text = Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            known = config_names()
            raise MissingData(
                f"the configuration {name} cannot be read ({error}); wanted a file, or one of {', '.join(known)}, or a "
                f"recipe such as {recipe_names()[0]}.{did_you_mean(name, (*known, *recipe_names()))}"
            ) from error
        given = read_yaml(text, name)
        names_from(given, name)
    return make_config(given, parse_overrides(overrides))


def make_config(given: Any, overrides: Mapping[str, Any] | None = None) -> TrainConfig:
    """Build a configuration from nested dictionaries, the second on top of the first.

    Raises:
        UnknownName: there is no such setting.
        InvalidOption: a value cannot be used.
    """
    if not isinstance(given, Mapping):
        raise InvalidOption(f"the configuration is {given!r:.80}; wanted a section with settings.")
    return build(TrainConfig, merge(given, overrides or {}))


def changed_settings(before: Any, after: Any, path: str = "") -> list[str]:
    """Return the paths of the settings in which two plain configurations differ, such as `learner.lr`."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        names = dict.fromkeys((*before, *after))
        return [
            found
            for name in names
            for found in changed_settings(before.get(name), after.get(name), ".".join(filter(None, (path, str(name)))))
        ]
    return [] if before == after else [path]
