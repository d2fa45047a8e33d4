"""The training loop: tasks, rollout, scores, advantages, update, evaluation, checkpoint; then the next step.

    trainer = Trainer(load_config("alfworld_sdar_tiny"), Path("runs/first"))
    trainer.run()

A run is a folder: `config.yaml` (every setting written out), `run.json` (facts about software and machine),
`metrics.jsonl`, `evaluations.jsonl` (the panel's episodes), `trajectories.jsonl`, `ledger.sqlite` (the skills that were
shown and what came of it), `checkpoints/`. What a step does follows from the configuration, the step's number and the
weights alone: whoever resumes from a checkpoint gets, on one machine's CPU, the same bits as a run that never stopped.

It is one process with one model. It refuses critics, reward models, and to go on when step after step gives gradients
that are not finite.
"""

from __future__ import annotations

import json
import math
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sdar_agents.engines.transformers import TransformersPolicy, load_model, without_bars
from sdar_agents.learner import Learner, Phases
from sdar_agents.learner.weights import fingerprint
from sdar_agents.rollout.recording import TrajectoryWriter, trajectory_row
from sdar_agents.rollout.rollout import Rollout, RolloutResult
from sdar_agents.rollout.skill_prompts import SkillPrompts, skill_showings
from sdar_agents.rollout.task_stream import TaskStream
from sdar_agents.settings.reader import read_yaml, to_plain
from sdar_agents.training.checkpoints import Checkpoint, Checkpoints
from sdar_agents.training.config import LoraSettings, SkillSettings, TrainConfig, changed_settings, make_config
from sdar_agents.training.evaluation import Evaluation, success_metrics
from sdar_agents.training.run_log import Bar, Lines, check_tracker, open_tracker
from sdar_agents.types import make_rows
from sdar_envs.errors import InvalidOption, MissingData, RunStopped
from sdar_envs.registry import make_text_env
from sdar_envs.storage import write_atomic
from sdar_skills import Ledger, Library, Statistics, make_retriever, retriever_settings
from sdar_skills.evidence.ledger import Position

__all__ = ["CONFIG", "Trainer", "read_run_config"]

CONFIG = "config.yaml"

# What a resumed run may change: it decides how long and how loudly the same things are done.
_FREE = ("steps", "checkpoints", "log")


class Trainer:
    """One training run.

    Args:
        config: see `TrainConfig`.
        folder: of the run.
        resume: go on from the folder's last checkpoint; without one, from the beginning.
        facts: for `run.json`, such as versions and the git revision.

    Raises:
        InvalidOption: the folder holds a run and `resume` is False, or its configuration is another one; the model
            cannot be loaded; a setting does not fit the environment or the model.
        UnknownName: there is no such split or strategy.
        MissingData: there is nothing to resume.
        ModuleNotFoundError: an extra is not installed.
    """

    def __init__(
        self, config: TrainConfig, folder: Path, *, resume: bool = False, facts: Mapping[str, Any] | None = None
    ) -> None:
        self.config = config = config.resolved()
        self.folder = folder
        self.step = 0
        self._check_folder(resume)
        check_tracker(config.log.tracker)
        self.checkpoints = Checkpoints(folder / "checkpoints", keep=config.checkpoints.keep)
        self._open = ExitStack()
        self._ledger: Ledger | None = None
        self._statistics: Statistics | None = None
        try:
            self._prepare(next(reversed(self.checkpoints.all()), None) if resume else None, dict(facts or {}))
        except BaseException:
            self._open.close()
            raise

    def _prepare(self, saved: Checkpoint | None, facts: dict[str, Any]) -> None:
        """Make everything that the run needs, as it was at a checkpoint if there is one."""
        config, folder = self.config, self.folder
        model, tokenizer = load_model(config.model.path, device=config.model.device, dtype=config.model.dtype)
        if config.model.lora is not None:
            model = _with_adapters(model, config.model.lora, config.seed)
        self.policy = TransformersPolicy(
            model,
            tokenizer,
            template_options=config.model.template_options,
            max_batch_tokens=config.model.max_batch_tokens,
            autocast=torch.bfloat16 if config.learner.autocast else None,
        )
        self.algorithm = config.make_algorithm()
        self._fingerprint = fingerprint(model)
        self.learner = Learner(
            model,
            self.algorithm,
            config.learner,
            pad_id=tokenizer.pad_token_id or 0,
            temperature=config.rollout.temperature,
            seed=config.seed,
            steps=config.steps,
        )
        source = make_text_env(config.rollout.env_id, **config.rollout.env_kwargs).source
        self.stream = TaskStream(
            source, config.split, per_step=config.tasks_per_step, seed=config.seed, limit=config.train_tasks
        )
        state = {} if saved is None else saved.read_state()
        # Not the folder's name of today: who moves a run does not lose what its bandit has learnt.
        self._name: str = state.get("name", folder.resolve().name)
        skills = self._open_skills(config.skills, state)
        is_shown = self.algorithm.needs_teacher or self.algorithm.student_sees_skills
        self.rollout = Rollout(config.rollout, self.policy, skills=skills if is_shown else None)
        self._open.callback(self.rollout.close)
        self.evaluation = Evaluation(config.evaluation, config.rollout, self.policy, skills=skills)
        self._open.callback(self.evaluation.close)
        if saved is None:
            # Nothing here draws from torch's own generator; an environment or a model of yours may.
            torch.manual_seed(config.seed)
        else:
            self._restore(saved, state)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / CONFIG, config.to_yaml())
        self._write_facts(facts)
        after = -1 if saved is None else saved.step
        self._metrics = Lines(folder / "metrics.jsonl", after=after)
        self._open.callback(self._metrics.close)
        self._evaluations = Lines(folder / "evaluations.jsonl", after=after)
        self._open.callback(self._evaluations.close)
        self._trajectories = TrajectoryWriter(folder, size=state.get("trajectories", 0))
        self._open.callback(self._trajectories.close)
        self._tracker = open_tracker(
            config.log.tracker, folder, project=config.log.project, config=to_plain(config), after=after
        )
        self._open.callback(self._tracker.close)

    # -- the loop ---------------------------------------------------------------------------

    def run(self) -> dict[str, float]:
        """Train until the last step.

        Returns:
            The metrics of the last step that was done.

        Raises:
            RunStopped: too many optimiser steps in a row were not finite, or something cannot be written. The state
                is saved if it can be.
        """
        config = self.config
        last: dict[str, float] = {}
        try:
            with Bar(config.steps, done=self.step, shown=config.log.progress) as bar:
                if self.step == 0 and config.evaluation.every and config.evaluation.at_start:
                    self._log(self._evaluate(bar), 0)
                while self.step < config.steps:
                    step = self.step + 1
                    last = self._train(step, bar)
                    self.step = step
                    stopped = self.learner.skipped_in_a_row >= config.learner.stop_after_skips
                    if not stopped and _is_due(step, config.evaluation.every, config.steps):
                        last |= self._evaluate(bar)
                    self._log(last, step)
                    bar.step(last)
                    if stopped or _is_due(step, config.checkpoints.every or config.steps, config.steps):
                        bar.say("checkpoint")
                        self.save(last.get(config.evaluation.best_by))
                    if stopped:
                        raise RunStopped(
                            f"{self.learner.skipped_in_a_row} optimiser steps in a row had a loss or gradient that is "
                            f"not finite; the run stopped at step {step}, its state is in {self.checkpoints.folder}. "
                            "The weights are those before these steps: look at the last rows of metrics.jsonl, and "
                            "give the last checkpoint's model to a new run with a lower learner.lr."
                        )
        finally:
            self.close()
        return last

    def _train(self, step: int, bar: Bar) -> dict[str, float]:
        """Do one step; return its metrics."""
        config = self.config
        started = time.perf_counter()
        phases = Phases(self.learner.device)
        if self._statistics is not None:
            # All choices of a step see the same numbers, whenever the step is done.
            self._statistics.refresh()
        with phases("rollout"):
            result = self.rollout.collect(
                self.stream.tasks(step),
                group_size=config.group_size,
                seed=config.seed,
                step=step,
                progress=lambda done, of: bar.say(f"rollout {done}/{of}"),
            )
        rows = [
            row
            for trajectory in result.trajectories
            for row in make_rows(trajectory, invalid_penalty=self.algorithm.invalid_penalty)
        ]
        if not rows:
            raise InvalidOption(
                f"not one episode of step {step} has a turn: every first prompt was too long. Raise "
                "rollout.max_prompt_tokens, or choose a model with a longer context."
            )
        learnt, gaps, _ = self.learner.learn(rows, step, phases=phases, progress=bar.say)
        self._keep_showings(result, step, gaps)
        if config.log.trajectories_every and step % config.log.trajectories_every == 0:
            with self._writing():
                self._trajectories.append(trajectory_row(t, details={"step": step}) for t in result.trajectories)
        metrics = {**result.metrics, **learnt}
        metrics |= {f"rollout/{name}": value for name, value in success_metrics(result.trajectories)}
        metrics |= {f"time/{name}": value for name, value in phases.seconds.items()}
        metrics["time/step"] = time.perf_counter() - started
        prompts, responses = result.metrics["rollout/prompt_tokens"], result.metrics["rollout/response_tokens"]
        metrics["tokens/per_second"] = (prompts + responses) / metrics["time/step"]
        metrics["tokens/generated_per_second"] = responses / max(phases.seconds["rollout"], 1e-9)
        if "update" in phases.seconds:
            metrics["tokens/updated_per_second"] = (prompts + responses) / max(phases.seconds["update"], 1e-9)
        metrics["rollout/response_length"] = responses / len(rows)
        metrics["rollout/prompt_length"] = prompts / len(rows)
        metrics["memory/peak_gib"] = _peak_memory(self.learner.device)
        return metrics

    def _evaluate(self, bar: Bar) -> dict[str, float]:
        """Play the panel; return its metrics and keep its episodes."""
        started = time.perf_counter()
        metrics, rows = self.evaluation.run(bar.say)
        with self._writing():
            for row in rows:
                self._evaluations.append({"step": self.step, **row})
        return {**metrics, "time/evaluation": time.perf_counter() - started}

    def _log(self, metrics: Mapping[str, float], step: int) -> None:
        # A mean of nothing is NaN, which JSON does not have.
        finite = {name: value for name, value in sorted(metrics.items()) if math.isfinite(value)}
        with self._writing():
            self._metrics.append({"step": step, **finite})
            self._tracker.log(finite, step)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Say what to do if a record cannot be written."""
        try:
            yield
        except OSError as error:
            found = self.checkpoints.all()
            whence = f"from the checkpoint of step {found[-1].step}" if found else "from the beginning"
            raise RunStopped(
                f"the records in {self.folder} cannot be written ({error}): free some space and resume, which goes on "
                f"{whence}."
            ) from error

    def close(self) -> None:
        """Close files and environments.

        Raises:
            RunStopped: a tracker cannot write what it still had.
        """
        with self._writing():
            self._open.close()

    # -- skills -----------------------------------------------------------------------------

    def _open_skills(self, settings: SkillSettings, state: Mapping[str, Any]) -> SkillPrompts | None:
        """Return what is shown to the teacher, to the student or in the diagnostic evaluation."""
        algorithm = self.algorithm
        is_shown = algorithm.needs_teacher or algorithm.student_sees_skills
        if not is_shown and not (self.config.evaluation.every and self.config.evaluation.with_skills):
            return None
        library = Library.load(*settings.library, builtin=settings.builtin)
        options = dict(settings.options)
        if settings.skill_tokens is not None:
            options["count_tokens"] = lambda text: len(self.policy.encode(text))
        compares = settings.varied or settings.control_members
        known = retriever_settings(settings.retriever)
        learns = "statistics" in known
        if is_shown and learns and not compares:
            raise InvalidOption(
                f"the strategy {settings.retriever} learns from members of a group that were shown different skills: "
                "set skills.varied, or skills.control_members to 1 or more."
            )
        if is_shown and compares:
            if "ledger" not in state:  # what a run without a checkpoint has left
                for path in self.folder.glob("ledger.sqlite*"):
                    path.unlink()
            self._ledger = self._open.enter_context(Ledger(self.folder / "ledger.sqlite"))
            if "ledger" in state:
                self._ledger.rewind(self._name, Position(*state["ledger"]))
        if learns:
            # Where nobody reads skills there is nothing to learn of them: the diagnostic shows the strategy's start.
            ledger = self._ledger or self._open.enter_context(Ledger(None))
            self._statistics = Statistics(ledger, gamma=settings.gamma, run=self._name)
            given = {"statistics": self._statistics, "refresh": False}
            options |= {name: value for name, value in given.items() if name in known}
        return SkillPrompts(
            make_retriever(settings.retriever, library, **options),
            reader="student" if algorithm.student_sees_skills else "teacher",
            placement=settings.placement,
            k=settings.k,
            skill_tokens=settings.skill_tokens,
            max_prompt_tokens=settings.max_prompt_tokens,
            varied=settings.varied,
            control_members=settings.control_members,
        )

    def _keep_showings(self, result: RolloutResult, step: int, gaps: Mapping[str, float]) -> None:
        if self._ledger is None:
            return
        settings = self.config.skills
        shown: dict[str, set[tuple[str, ...]]] = {}
        played = [trajectory for trajectory in result.trajectories if trajectory.turns]
        for trajectory in played:
            ids = tuple(skill.id for skill in result.shown.get(trajectory.episode_id, ()))
            shown.setdefault(trajectory.group_id, set()).add(ids)
        # A group whose members were all shown the same says nothing about a skill.
        telling = {
            group for group, kinds in shown.items() if len(kinds) > 1 and (() in kinds or not settings.control_members)
        }
        trajectories = [trajectory for trajectory in played if trajectory.group_id in telling]
        self._ledger.append(
            skill_showings(
                trajectories,
                result.shown,
                run=self._name,
                step=step,
                strategy=settings.retriever,
                baseline="control" if settings.control_members else "group",
                # An episode that was shown nothing has no gap.
                gaps=gaps if all(trajectory.episode_id in gaps for trajectory in trajectories) else None,
            )
        )

    # -- the folder -------------------------------------------------------------------------

    def save(self, value: float | None = None) -> Checkpoint:
        """Write a checkpoint of the step that was just done.

        Args:
            value: of the evaluation, by which the best is kept.

        Raises:
            RunStopped: it cannot be written; the one before is untouched.
        """
        model, tokenizer = self.policy.model, self.policy.tokenizer

        def save_model(path: Path) -> None:
            with without_bars():
                model.save_pretrained(path)
                tokenizer.save_pretrained(path)

        state: dict[str, Any] = {
            "name": self._name,
            "fingerprint": self._fingerprint,
            "trajectories": self._trajectories.size,
        }
        if self._ledger is not None:
            state["ledger"] = list(self._ledger.position())
        tensors = {**self.learner.state_dict(), "random": torch.get_rng_state()}
        if self.learner.device.type == "cuda":
            tensors["random_cuda"] = torch.cuda.get_rng_state(self.learner.device)
        return self.checkpoints.save(self.step, save_model, tensors, state, value=value)

    def _restore(self, saved: Checkpoint, state: Mapping[str, Any]) -> None:
        if state["fingerprint"] != self._fingerprint:
            raise InvalidOption(
                f"{self.config.model.path} is not the model that this run began with: its weights are the reference, "
                "and must be the same. Give model.path as it was."
            )
        with without_bars():
            _load_weights(self.policy.model, saved.model)
        tensors = saved.read_tensors()
        self.learner.load_state_dict(tensors)
        torch.set_rng_state(tensors["random"])
        if "random_cuda" in tensors and self.learner.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random_cuda"], self.learner.device)
        self.step = saved.step

    def _write_facts(self, facts: dict[str, Any]) -> None:
        path = self.folder / "run.json"
        if path.exists():
            begun = json.loads(path.read_text(encoding="utf-8"))
            facts = {**begun, "resumed": [*begun.get("resumed", []), facts]}
        write_atomic(path, json.dumps(facts, indent=1) + "\n")

    def _check_folder(self, resume: bool) -> None:
        exists = (self.folder / CONFIG).exists()
        if not resume:
            if exists:
                raise InvalidOption(
                    f"{self.folder} holds a run already: go on with it by --resume, or choose another folder."
                )
            # A start that failed may have left an empty ledger.
            ours = (".", "ledger.sqlite")
            if self.folder.exists() and any(not path.name.startswith(ours) for path in self.folder.iterdir()):
                raise InvalidOption(f"{self.folder} exists and is no training run: choose another folder.")
            return
        before = to_plain(read_run_config(self.folder))
        after = to_plain(self.config)
        changed = [
            name
            for name in changed_settings(before, after)
            if name.partition(".")[0] not in _FREE or (name == "steps" and self.config.learner.schedule != "constant")
        ]
        if changed:
            raise InvalidOption(
                f"{self.folder} is a run of another configuration: {', '.join(changed)} changed. Resume with the same "
                "settings, or start a new run."
            )


def read_run_config(folder: Path) -> TrainConfig:
    """Return the configuration of a run.

    Raises:
        MissingData: the folder is no run.
    """
    try:
        text = (folder / CONFIG).read_text(encoding="utf-8")
    except OSError as error:
        raise MissingData(f"{folder} is no training run ({error}).") from error
    return make_config(read_yaml(text, str(folder / CONFIG)))


def _is_due(step: int, every: int, steps: int) -> bool:
    return bool(every) and (step % every == 0 or step == steps)


def _peak_memory(device: torch.device) -> float:
    """Return the most memory so far in GiB: the accelerator's, or without one the process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    if sys.platform == "win32":
        return math.nan  # not to be had without another library
    import resource  # noqa: PLC0415

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


def _with_adapters(model: nn.Module, settings: LoraSettings, seed: int) -> nn.Module:
    try:
        import peft  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("model.lora needs peft: pip install 'sdar-envs[lora]'", name=error.name) from error
    targets: Any = settings.targets if settings.targets == "all-linear" else re.split(r"[,\s]+", settings.targets)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapted: nn.Module = peft.get_peft_model(
            model,
            peft.LoraConfig(r=settings.rank, lora_alpha=settings.alpha, target_modules=targets, task_type="CAUSAL_LM"),
        )
    return adapted


def _load_weights(model: Any, folder: Path) -> None:
    """Load the trained weights of a checkpoint into a model of the same kind."""
    if hasattr(model, "peft_config"):
        import peft  # noqa: PLC0415

        tensors = peft.utils.load_peft_weights(str(folder), device="cpu")
        peft.set_peft_model_state_dict(model, tensors)
        return
    loaded = type(model).from_pretrained(folder, dtype=model.dtype)
    model.load_state_dict(loaded.state_dict())
