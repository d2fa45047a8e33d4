"""Design of a study: a start, gates, arms (a method, perhaps under a control), seeds and what is measured.

    design = load_design("alfworld")
    for cell in design.cells(): ...

A cell is one training run: an arm with one seed. Several seeds share a start, which is nested: seed s begins from start
s mod `start.seeds`. Cells are in the order of the seeds, so that an unfinished study has complete seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from sdar_agents.settings.checks import check_settings, setting
from sdar_agents.settings.reader import build, errors_at, merge, parse_overrides, read_yaml
from sdar_agents.sft.demonstrations import DemonstrationSettings
from sdar_agents.sft.settings import SFTSettings
from sdar_agents.sft.tiny import TINY_MODELS, TINY_SFT
from sdar_agents.training.config import TrainConfig, make_config
from sdar_benchmarks.studies.designs import design_names, design_text
from sdar_envs.errors import InvalidOption, MissingData, UnknownName, did_you_mean

__all__ = [
    "Arm",
    "Cell",
    "CostSettings",
    "Design",
    "GateSettings",
    "MeasureSettings",
    "PilotSettings",
    "StartSettings",
    "load_design",
]


@dataclass(frozen=True, kw_only=True)
class StartSettings:
    """Starts: models that are fine-tuned on demonstrations, from which all arms begin.

    Attributes:
        model: a name in `sdar_agents.sft.tiny.TINY_MODELS`.
        seeds: number of starts; each has demonstrations and weights of its own.
        env_kwargs: of the demonstrations.
        episodes: number of demonstrated episodes, half of them with skills.
        readings: number of further episodes of which only the first turn is demonstrated, all with skills: without
            them a tiny model does not learn to read skills.
        retriever: of these skills.
        noise: share of strange commands in the demonstrated episodes.
        guesses: see `sdar_agents.sft.demonstrations.DemonstrationSettings`.
        batch_tokens: of the fine-tuning; null for that of tiny models.
    """

    model: str = "tiny-1m"
    seeds: int = setting(1, low=1)
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    episodes: int = setting(1800, low=1)
    readings: int = setting(0, low=0)
    retriever: str = "task_type"
    noise: float = setting(0.25, low=0, high=0.9)
    guesses: bool = False
    batch_tokens: int | None = setting(None, low=1)

    def __post_init__(self) -> None:
        check_settings(self)
        if self.model not in TINY_MODELS:
            raise UnknownName(
                f"model is {self.model!r}; there is {', '.join(TINY_MODELS)}.{did_you_mean(self.model, TINY_MODELS)}"
            )

    def demonstrations(self, number: int, config: TrainConfig) -> dict[str, DemonstrationSettings]:
        """Return the demonstrations of a start by the name of their file: whole episodes, and first turns."""
        rollout = config.rollout
        episodes = DemonstrationSettings(
            env_id=rollout.env_id,
            env_kwargs=self.env_kwargs,
            episodes=self.episodes,
            # Each start has tasks of its own.
            first=number * (self.episodes + self.readings),
            guesses=self.guesses,
            noise=self.noise,
            again=False,
            with_skills=0.5,
            retriever=self.retriever,
            history_length=rollout.history_length,
            terse=rollout.terse,
            seed=number,
        )
        found = {"episodes": episodes}
        if self.readings:
            first = episodes.first + self.episodes
            found["readings"] = replace(
                episodes, episodes=self.readings, first=first, turns=1, noise=0.0, with_skills=1.0
            )
        return found

    def fine_tuning(self, number: int) -> SFTSettings:
        """Return the settings of the fine-tuning of a start."""
        return replace(TINY_SFT, seed=number, batch_tokens=self.batch_tokens or TINY_SFT.batch_tokens)


@dataclass(frozen=True, kw_only=True)
class GateSettings:
    """Gates: what a start must show before anything is trained from it.

    Attributes:
        sampled: band of its success at the temperature of training. Below, there is nothing to learn from; above,
            nothing to learn.
        teacher: least success of greedy play with skills: of the teacher.
        lead: least difference of that to greedy play without.
        probe_teacher: least probability of the right furniture with skills; null for no such gate.
        probe_student: greatest probability of it without; null for no such gate.
    """

    sampled: tuple[float, ...] = (0.2, 0.6)
    teacher: float = setting(0.8, low=0, high=1)
    lead: float = setting(0.15, low=-1, high=1)
    probe_teacher: float | None = setting(None, low=0, high=1)
    probe_student: float | None = setting(None, low=0, high=1)

    def __post_init__(self) -> None:
        check_settings(self)
        if len(self.sampled) != 2 or not 0 <= self.sampled[0] <= self.sampled[1] <= 1:
            raise InvalidOption(f"sampled is {list(self.sampled)}; wanted two shares, the lower first.")

    def failures(self, measured: Mapping[str, float]) -> list[str]:
        """Return the gates that a start does not pass, a sentence each.

        Args:
            measured: success and probes of the start by name, see `sdar_benchmarks.studies.measures`.
        """
        low, high = self.sampled
        sampled, student, teacher = (measured[f"start/{way}"] for way in ("sampled", "greedy", "with_skills"))
        found = []
        if not low <= sampled <= high:
            found.append(f"gate sampled: success of sampled play is {sampled:.3f}, wanted {low:g} to {high:g}")
        if teacher < self.teacher:
            found.append(f"gate teacher: success with skills is {teacher:.3f}, wanted {self.teacher:g} or more")
        if teacher - student < self.lead:
            found.append(
                f"gate lead: skills add {teacher - student:+.3f} to greedy play, wanted {self.lead:+g} or more"
            )
        if self.probe_teacher is not None and measured["probe/with_skills"] < self.probe_teacher:
            found.append(
                f"gate probe_teacher: with skills the right furniture has probability "
                f"{measured['probe/with_skills']:.3f}, wanted {self.probe_teacher:g} or more"
            )
        if self.probe_student is not None and measured["probe/plain"] > self.probe_student:
            found.append(
                f"gate probe_student: without skills the right furniture has probability "
                f"{measured['probe/plain']:.3f}, wanted {self.probe_student:g} or less"
            )
        return found


@dataclass(frozen=True, kw_only=True)
class MeasureSettings:
    """What is measured in a run besides its own metrics.

    Attributes:
        probe: prompts of the habit probe for each thing; 0 for no probe, which only ALFWorld's small rooms have.
        probe_every: it is measured at the start and after each so many steps.
        last: evaluations of which the success at the end is the mean.
        every: steps between them; the last is after the last step.
    """

    probe: int = setting(0, low=0)
    probe_every: int = setting(2, low=1)
    last: int = setting(3, low=1)
    every: int = setting(2, low=1)

    def __post_init__(self) -> None:
        check_settings(self)

    def is_evaluated(self, step: int, steps: int) -> bool:
        """Return whether a step is one of those whose evaluations count."""
        behind = steps - step
        return step > 0 and behind % self.every == 0 and behind // self.every < self.last


@dataclass(frozen=True, kw_only=True)
class PilotSettings:
    """Spread of paired differences in a pilot, from which a plan computes power.

    Attributes:
        effect: difference to be found.
        sd: standard deviation of the paired differences.
        pairs: from so many of them.
    """

    effect: float = setting(0.05, above=0)
    sd: float = setting(0.04, above=0)
    pairs: int = setting(2, low=2)

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class CostSettings:
    """Processor seconds of one thread, for a plan.

    Attributes:
        step: of a step without a teacher.
        teacher_step: of a step with one.
        evaluation: of the panel played once.
        start: of demonstrations and fine-tuning.
    """

    step: float = setting(1.0, above=0)
    teacher_step: float = setting(1.0, above=0)
    evaluation: float = setting(1.0, above=0)
    start: float = setting(1.0, above=0)

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """What is compared: a method, with settings of its own, perhaps under a control.

    Attributes:
        method: see `TrainConfig.method`.
        control: see `TrainConfig.control`; an arm with one is not among the methods compared.
        settings: of its training, on top of the design's.
    """

    method: str
    control: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_settings(self)


class Cell(NamedTuple):
    """A cell of a study: one training run.

    Attributes:
        arm: its name.
        seed: of the training.
        start: number of the start.
    """

    arm: str
    seed: int
    start: int

    @property
    def name(self) -> str:
        """Name of its folder and its record, such as `seed-03-sdar`."""
        return f"seed-{self.seed:02d}-{self.arm}"


@dataclass(frozen=True, kw_only=True)
class Design:
    """Design of a study.

    Attributes:
        start: see `StartSettings`.
        training: fields of `TrainConfig` that all arms share.
        arms: see `Arm`; by name.
        baseline: the arm that the others are compared with.
        gates: see `GateSettings`.
        measures: see `MeasureSettings`.
        seeds: number of paired seeds.
        pilot: by metric, see `PilotSettings`.
        cost: see `CostSettings`; null if it is not known.
        overrides: of `training`, as on a command line.
        name: of the design.
    """

    training: Mapping[str, Any]
    arms: Mapping[str, Any]
    baseline: str
    start: StartSettings = field(default_factory=StartSettings)
    gates: GateSettings = field(default_factory=GateSettings)
    measures: MeasureSettings = field(default_factory=MeasureSettings)
    seeds: int = setting(10, low=1)
    pilot: Mapping[str, Any] = field(default_factory=dict)
    cost: CostSettings | None = None
    overrides: tuple[str, ...] = ()
    name: str = ""

    def __post_init__(self) -> None:
        check_settings(self)
        arms = {
            name: given if isinstance(given, Arm) else build(Arm, given, f"arms.{name}")
            for name, given in self.arms.items()
        }
        pilot = {
            name: given if isinstance(given, PilotSettings) else build(PilotSettings, given, f"pilot.{name}")
            for name, given in self.pilot.items()
        }
        object.__setattr__(self, "arms", arms)
        object.__setattr__(self, "pilot", pilot)
        if self.baseline not in arms:
            raise InvalidOption(
                f"baseline is {self.baseline!r}; wanted one of the arms, {', '.join(arms)}."
                f"{did_you_mean(self.baseline, arms)}"
            )
        gates = (self.gates.probe_teacher, self.gates.probe_student)
        if not self.measures.probe and gates != (None, None):
            raise InvalidOption(
                "measures.probe is 0, and a gate is about the probe: set it to 1 or more, or leave out "
                "gates.probe_teacher and gates.probe_student."
            )
        if arms[self.baseline].control is not None:
            raise InvalidOption(f"baseline is {self.baseline!r}, which is a control; wanted a method.")

    @property
    def compared(self) -> tuple[str, ...]:
        """Names of the methods that are compared with the baseline."""
        return tuple(name for name, arm in self.arms.items() if arm.control is None and name != self.baseline)

    @property
    def controls(self) -> tuple[str, ...]:
        """Names of the controls."""
        return tuple(name for name, arm in self.arms.items() if arm.control is not None)

    def chosen(self, names: Sequence[str]) -> Design:
        """Return the design with only some of its arms, and the baseline.

        Raises:
            UnknownName: there is no such arm.
        """
        for name in names:
            if name not in self.arms:
                raise UnknownName(
                    f"no arm {name!r}; {self.name} has {', '.join(self.arms)}.{did_you_mean(name, self.arms)}"
                )
        return replace(self, arms={name: arm for name, arm in self.arms.items() if name in (self.baseline, *names)})

    def cells(self) -> list[Cell]:
        """Return the cells, those of a seed together."""
        return [Cell(arm, seed, seed % self.start.seeds) for seed in range(self.seeds) for arm in self.arms]

    def given(self, arm: str) -> dict[str, Any]:
        """Return the settings of an arm's training that the design names, without overrides."""
        return merge(self.training, self.arms[arm].settings)

    def config(self, arm: str, seed: int, model: str) -> TrainConfig:
        """Return the configuration of a training run.

        Args:
            arm: name of the arm.
            seed: of the run.
            model: folder of the start.

        Raises:
            UnknownName: there is no such method, control or setting.
            InvalidOption: a value cannot be used.
        """
        chosen = self.arms[arm]
        given = self.given(arm)
        own = {"method": chosen.method, "control": chosen.control, "seed": seed, "model": {"path": model}}
        given = merge(given, own)
        # The study measures by itself, at steps of its own.
        given = merge(given, {"evaluation": {"every": 0}})
        overrides = parse_overrides(self.overrides)
        for name in ("method", "control", "seed", "model"):
            if name in overrides:
                raise InvalidOption(f"--{name} is given, and the design decides it: choose --arms and --seeds.")
        with errors_at(f"arm {arm}"):
            return make_config(given, overrides)


def load_design(name: str, overrides: Sequence[str] = ()) -> Design:
    """Load a design.

    Args:
        name: one of `design_names()`, or the path of a YAML file with the fields of `Design`.
        overrides: of the training, `--a.b value`.

    Raises:
        MissingData: there is no such design.
        CorruptData: the file is not YAML.
        UnknownName: there is no such setting.
        InvalidOption: a value cannot be used.
    """
    if name in design_names():
        text, title = design_text(name), name
    else:
        try:
            text, title = Path(name).read_text(encoding="utf-8"), Path(name).stem
        except (OSError, UnicodeDecodeError) as error:
            known = design_names()
            raise MissingData(
                f"the design {name} cannot be read ({error}); wanted a file, or one of {', '.join(known)}."
                f"{did_you_mean(name, known)}"
            ) from error
    given = read_yaml(text, title)
    design = build(Design, given)
    design = replace(design, overrides=tuple(overrides), name=title)
    for arm in design.arms:
        design.config(arm, 0, ".")
    return design
