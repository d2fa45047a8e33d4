"""The configuration of a training run: every default once, in a frozen dataclass.

    config = load_config("alfworld_sdar_tiny", ["--method", "grpo", "--learner.lr", "3e-6"])

A file is YAML with the fields of `TrainConfig`; `algorithm` holds settings that every method has, `methods` those of
single methods, of which only the chosen one's count. Whatever is misspelt, of a wrong type or out of range is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml

from sdar_agents.algorithms import ALGORITHMS, SUITES, Algorithm, Preset, make_algorithm
from sdar_agents.learner.settings import LearnerSettings
from sdar_agents.rollout.rollout import RolloutSettings
from sdar_agents.settings.checks import check_settings, setting
from sdar_agents.settings.reader import build, merge, parse_overrides, read_yaml, to_plain
from sdar_envs.errors import InvalidOption, MissingData, UnknownName, did_you_mean
from sdar_skills.context import Placement

__all__ = [
    "CheckpointSettings",
    "EvaluationSettings",
    "LogSettings",
    "LoraSettings",
    "ModelSettings",
    "SkillSettings",
    "TrainConfig",
    "changed_settings",
    "config_names",
    "load_config",
    "make_config",
]

Tracker = Literal["none", "tensorboard", "trackio", "wandb"]


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """Low-rank adapters instead of all weights; wants the extra `lora`.

    Attributes:
        rank: of an adapter.
        alpha: its factor is `alpha / rank`.
        targets: names of the layers that get one, with commas between; `all-linear` is all but the head.
    """

    rank: int = setting(32, low=1)
    alpha: int = setting(64, low=1)
    targets: str = "all-linear"

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The model that is trained.

    Attributes:
        path: a folder, or a name on the hub.
        dtype: of the weights. With float32, `learner.autocast` computes in bfloat16 all the same.
        device: such as `cuda`; null for `cuda` if there is one, else `cpu`.
        lora: see `LoraSettings`; null trains all weights.
        template_options: for the chat template, such as `{enable_thinking: false}`.
        max_batch_tokens: of sequences that are generated together, padding included.
    """

    path: str
    dtype: Literal["float32", "bfloat16", "float64"] = "float32"
    device: str | None = None
    lora: LoraSettings | None = None
    template_options: Mapping[str, Any] = field(default_factory=dict)
    max_batch_tokens: int = setting(1 << 17, low=1)

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class SkillSettings:
    """Which skills the teacher is shown (or the student, if the method says so).

    Attributes:
        retriever: a strategy of `sdar_skills`.
        options: for the strategy.
        library: folders of skills besides those of this package.
        builtin: use those of this package.
        k: how many skills at most.
        placement: where they stand in the prompt.
        skill_tokens: that their texts may take together; null for no limit.
        max_prompt_tokens: of the teacher's prompt; null is what the model's context leaves.
        varied: choose anew for each member of a group.
        control_members: so many members of each group are shown nothing.
        gamma: discount of the statistics that bandits learn from, per step.
    """

    retriever: str = "task_type"
    options: Mapping[str, Any] = field(default_factory=dict)
    library: tuple[str, ...] = ()
    builtin: bool = True
    k: int = setting(6, low=0)
    placement: Placement = "user"
    skill_tokens: int | None = setting(None, low=1)
    max_prompt_tokens: int | None = setting(None, low=1)
    varied: bool = False
    control_members: int = setting(0, low=0)
    gamma: float = setting(0.99, low=0, high=1)

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """Evaluation on a fixed panel: the first tasks of a split, the same every time, with the same draws.

    Attributes:
        every: evaluate after each so many steps, and after the last; 0 for never.
        at_start: evaluate before the first step too.
        split: which; null is the one that results of the environment are usually reported on.
        tasks: how many; 0 for none.
        env_kwargs: of the environment, over those of the rollout.
        temperature: of the sampled evaluation.
        greedy: evaluate the likeliest completions.
        sampled: evaluate sampled ones.
        with_skills: evaluate greedily with skills in the prompt, as a diagnostic.
        seed: of the draws.
        best_by: the metric by which the best checkpoint is kept.
    """

    every: int = setting(5, low=0)
    at_start: bool = True
    split: str | None = None
    tasks: int = setting(64, low=0)
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    temperature: float = setting(0.4, low=0)
    greedy: bool = True
    sampled: bool = True
    with_skills: bool = True
    seed: int = setting(0, low=0)
    best_by: Literal["eval/greedy/success", "eval/sampled/success"] = "eval/greedy/success"

    def __post_init__(self) -> None:
        check_settings(self)
        ways = {"eval/greedy/success": self.greedy, "eval/sampled/success": self.sampled}
        if any(ways.values()) and not ways[self.best_by]:
            other = next(name for name, is_on in ways.items() if is_on)
            raise InvalidOption(
                f"evaluation.best_by is {self.best_by}, which this evaluation leaves out: set it to {other}."
            )
        if self.sampled and not self.temperature:
            raise InvalidOption(
                "evaluation.temperature is 0, and the sampled evaluation needs one above it: set evaluation.sampled to "
                "false, the greedy evaluation is another."
            )


@dataclass(frozen=True, kw_only=True)
class CheckpointSettings:
    """When the run is saved.

    Attributes:
        every: after each so many steps, and after the last; 0 for after the last only.
        keep: so many of the latest stay, and the best.
    """

    every: int = setting(10, low=0)
    keep: int = setting(2, low=1)

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class LogSettings:
    """What is told while training. `metrics.jsonl` is always written.

    Attributes:
        tracker: who else gets the metrics.
        project: for wandb and trackio.
        trajectories_every: write the trajectories of each so many steps; 0 for none.
        progress: show a bar, on a terminal.
    """

    tracker: Tracker = "tensorboard"
    project: str = "sdar"
    trajectories_every: int = setting(10, low=0)
    progress: bool = True

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run.

    Attributes:
        model: see `ModelSettings`.
        rollout: see `RolloutSettings`.
        method: one of `ALGORITHMS`.
        preset: of the method.
        algorithm: settings that override the preset's.
        methods: settings by method; those of the chosen one count, under `algorithm`'s.
        seed: of the tasks, the sampling, the order of the episodes.
        steps: of the run.
        split: what is trained on.
        train_tasks: only its first so many tasks; null for all.
        tasks_per_step: different tasks in a step.
        group_size: episodes of each task.
        skills: see `SkillSettings`.
        learner: see `LearnerSettings`.
        evaluation: see `EvaluationSettings`.
        checkpoints: see `CheckpointSettings`.
        log: see `LogSettings`.
    """

    model: ModelSettings
    rollout: RolloutSettings
    method: str = "sdar"
    preset: Preset = "default"
    algorithm: Mapping[str, Any] = field(default_factory=dict)
    methods: Mapping[str, Any] = field(default_factory=dict)
    seed: int = setting(0, low=0)
    steps: int = setting(150, low=1)
    split: str = "train"
    train_tasks: int | None = setting(None, low=1)
    tasks_per_step: int = setting(16, low=1)
    group_size: int = setting(8, low=1)
    skills: SkillSettings = field(default_factory=SkillSettings)
    learner: LearnerSettings = field(default_factory=LearnerSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    checkpoints: CheckpointSettings = field(default_factory=CheckpointSettings)
    log: LogSettings = field(default_factory=LogSettings)

    def __post_init__(self) -> None:
        check_settings(self)
        for name, given in self.methods.items():
            if name not in ALGORITHMS:
                raise UnknownName(
                    f"methods has settings of {name!r}; the methods are {', '.join(ALGORITHMS)}."
                    f"{did_you_mean(name, ALGORITHMS)}"
                )
            if not isinstance(given, Mapping):
                raise InvalidOption(f"methods.{name} is {given!r}; wanted a section with settings.")
            make_algorithm(name, preset=self.preset, suite=self.suite, **given)
        algorithm = self.make_algorithm()
        shows = algorithm.needs_teacher or algorithm.student_sees_skills
        if self.rollout.greedy:
            raise InvalidOption("rollout.greedy is true: the members of a group would all do the same. Leave it out.")
        if shows and self.skills.control_members >= self.group_size:
            raise InvalidOption(
                f"skills.control_members is {self.skills.control_members} in groups of {self.group_size}; wanted fewer."
            )

    @property
    def suite(self) -> str:
        """Whose settings the preset takes: that of the environment, or ALFWorld's for one that is not ours."""
        name = self.rollout.env_id.lower()
        return next((suite for suite in SUITES if suite.replace("_", "") in name), "alfworld")

    def make_algorithm(self) -> Algorithm:
        """Return the method with its settings.

        Raises:
            UnknownName: there is no such method or setting.
            InvalidOption: a setting has a wrong type or is out of range.
        """
        settings = {**self.methods.get(self.method, {}), **self.algorithm}
        if settings.get("aggregation") == "seq-mean-token-sum-norm":
            settings.setdefault("response_limit", self.rollout.max_new_tokens)
        return make_algorithm(self.method, preset=self.preset, suite=self.suite, **settings)

    def resolved(self) -> TrainConfig:
        """Return the same run with every setting of its method written out."""
        return replace(self, algorithm=to_plain(self.make_algorithm()), methods={})

    def to_yaml(self) -> str:
        """Return the configuration as a file that `load_config` reads."""
        text: str = yaml.safe_dump(to_plain(self), sort_keys=False, allow_unicode=True)
        return text


def config_names() -> tuple[str, ...]:
    """Return the configurations of this package."""
    folder = files("sdar_agents") / "configs"
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")))


def load_config(name: str, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a configuration.

    Args:
        name: a path, or one of `config_names()`.
        overrides: `--a.b value` or `--a.b=value`, on top of the file.

    Raises:
        MissingData: there is no such file.
        CorruptData: it is no YAML.
        UnknownName: there is no such setting.
        InvalidOption: a value cannot be used.
    """
    if name in config_names():
        text = (files("sdar_agents") / "configs" / f"{name}.yaml").read_text(encoding="utf-8")
    else:
        try:
            text = Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            known = config_names()
            raise MissingData(
                f"the configuration {name} cannot be read ({error}); wanted a file, or one of {', '.join(known)}."
                f"{did_you_mean(name, known)}"
            ) from error
    return make_config(read_yaml(text, name), parse_overrides(overrides))


def make_config(given: Any, overrides: Mapping[str, Any] | None = None) -> TrainConfig:
    """Make a configuration of nested dictionaries, the second on top of the first.

    Raises:
        UnknownName: there is no such setting.
        InvalidOption: a value cannot be used.
    """
    if not isinstance(given, Mapping):
        raise InvalidOption(f"the configuration is {given!r:.80}; wanted a section with settings.")
    return build(TrainConfig, merge(given, overrides or {}))


def changed_settings(before: Any, after: Any, path: str = "") -> list[str]:
    """Name the settings in which two plain configurations differ, such as `learner.lr`."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        names = dict.fromkeys((*before, *after))
        return [
            found
            for name in names
            for found in changed_settings(before.get(name), after.get(name), ".".join(filter(None, (path, str(name)))))
        ]
    return [] if before == after else [path]
