"""Training loop: rollout, scores, advantages, update, evaluation, checkpoint.

    trainer = Trainer(load_config("alfworld_sdar_tiny"), Path("runs/first"))
    trainer.run()

A run is a folder: `config.yaml` (every setting written out), `run.json` (facts about software and machine),
`metrics.jsonl`, `evaluations.jsonl` (the panel's episodes), `trajectories.jsonl` (for `sdar view`: two groups of every
tenth step, with the teacher's prompt and the gap and gate of each token), `ledger.sqlite` (the skills that were shown
and what came of it), `checkpoints/`. A step depends on the configuration, the step's number and the weights alone, so a
resumed run computes, on one machine's CPU, the same bits as one that never stopped. One process writes at a time, and
locks the folder.

It trains one model, without a critic or a reward model, and stops when optimiser steps in a row have gradients that are
not finite. With several processes (`World`) all of them run this loop: each plays some of the episodes and learns from
some of the rows, and rank 0 alone writes files. One process computes the same bits as ever.
"""

from __future__ import annotations

import hashlib
import logging
import math
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from sdar_agents.engines import Policy, make_engine
from sdar_agents.engines.transformers import load_model, without_bars
from sdar_agents.learner import Learner, LearnResult, Phases, TokenSignals, token_marks, turn_marks
from sdar_agents.learner.sharding import is_sharded
from sdar_agents.learner.weights import fingerprint
from sdar_agents.parallel import World
from sdar_agents.rollout.recording import TrajectoryWriter, trajectory_row
from sdar_agents.rollout.rollout import Rollout, RolloutResult
from sdar_agents.rollout.task_stream import TaskStream
from sdar_agents.settings.reader import errors_at, to_plain
from sdar_agents.training.checks.learnability import check_rounding, shortest_answer, signal_problems
from sdar_agents.training.config import TrainConfig
from sdar_agents.training.engine_weights import EngineWeights, GenerationCopy
from sdar_agents.training.evaluation import Evaluation, success_metrics
from sdar_agents.training.run.ahead import SECONDS, check_versions, rollout_ahead
from sdar_agents.training.run.context import RunContext, context_control
from sdar_agents.training.run.costs import Costs, step_costs, teacher_tokens
from sdar_agents.training.run.folder import CONFIG, check_folder, read_run_config, write_facts
from sdar_agents.training.run.log import Bar, Lines, check_tracker, open_tracker
from sdar_agents.training.run.scorers import open_scorers
from sdar_agents.training.run.skills import RunSkills
from sdar_agents.training.saving.adapters import add_adapters, load_weights
from sdar_agents.training.saving.checkpoints import Checkpoint, Checkpoints
from sdar_agents.training.saving.shards import ShardedSaver, load_shards
from sdar_agents.training.splits import trained_split
from sdar_agents.training.start_evaluations import StartEvaluations
from sdar_agents.types import Row, Trajectory
from sdar_envs.errors import EndpointError, InvalidOption, RunStopped
from sdar_envs.files.locks import writing_folder
from sdar_envs.files.replacing import sweep
from sdar_envs.secrets import check_no_secrets
from sdar_envs.storage import check_run, write_atomic

if sys.platform != "win32":
    import resource

__all__ = ["CONFIG", "Trainer", "read_run_config"]

ResultT = TypeVar("ResultT")

_log = logging.getLogger(__name__)

_ATTEMPTS = 3


class Trainer:
    """One training run.

    Args:
        config: see `TrainConfig`.
        folder: of the run.
        resume: continue from the folder's last checkpoint; without one, from the beginning.
        facts: for `run.json`, such as versions and the git revision.
        world: the ranks of the run; None for one process. All methods are collective then.
        measure: called with the trainer before the first step and after each one; what it returns is among the
            metrics of the step. It must leave the weights and torch's random state as they are.

    Attributes:
        problems: what keeps the run from learning, a sentence each. They are logged as warnings, and in `run.json`.

    Raises:
        InvalidOption: the folder holds a run and `resume` is False, its configuration is another one, or another
            process writes to it; the model cannot be loaded; a setting does not fit the environment or the model;
            nothing can be learnt.
        UnknownName: there is no such split, strategy or reward function, or there are no skills for the suite and the
            method needs them.
        MissingData: there is nothing to resume.
        MissingExtra: an extra is not installed.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        *,
        resume: bool = False,
        facts: Mapping[str, Any] | None = None,
        world: World | None = None,
        measure: Callable[[Trainer], Mapping[str, float]] | None = None,
    ) -> None:
        self.world = world or World()
        self._measure = measure
        self.config = config = config.resolved()
        self.folder = folder
        self.step = 0
        self.costs = Costs()
        check_no_secrets(to_plain(config))
        self.checkpoints = Checkpoints(folder / "checkpoints", keep=config.checkpoints.keep)
        if resume:
            check_run(folder, CONFIG)  # before the lock, for which a missing folder is made
        self._open = ExitStack()
        try:
            saved, state = self.world.from_first(lambda: self._enter(resume=resume))
            self._load_model()
            self._open_tasks(state)
            self._check_template()
            self._find_problems()
            if saved is None:
                # Nothing here draws from torch's own generator; an environment or a model of yours may.
                torch.manual_seed(config.seed)
            else:
                self._restore(saved, state)
            if self.world.is_first:
                self.checkpoints.prune()
                self._open_records(saved, state, self._facts(facts or {}))
            self._saver = ShardedSaver(self.checkpoints, self.world) if is_sharded(self.model) else None
        except BaseException:
            self._open.close()
            raise

    def _enter(self, *, resume: bool) -> tuple[Checkpoint | None, dict[str, Any]]:
        """Lock and check the folder; return the checkpoint to resume from, and its state."""
        is_locked = self._open.enter_context(writing_folder(self.folder))
        check_folder(self.folder, self.config, resume=resume)
        check_tracker(self.config.log.tracker)
        if is_locked:
            sweep(self.folder)
            self.checkpoints.sweep()
        saved = next(reversed(self.checkpoints.all()), None) if resume else None
        return saved, {} if saved is None else saved.read_state()

    # -- what a run consists of -------------------------------------------------------------

    def _load_model(self) -> None:
        """Make the model, its inference engine and its learner."""
        config = self.config
        self.algorithm = config.make_algorithm()
        # Before the model, which may take minutes to load.
        self.problems = signal_problems(config, self.algorithm)
        model, self.tokenizer = load_model(config.model.path, device=config.model.device, dtype=config.model.dtype)
        dtype = config.model.generation_dtype
        generation = None
        if (self.world.size > 1 or dtype is not None) and config.model.engine != "vllm":
            generation = GenerationCopy(model, None if dtype is None else getattr(torch, dtype))
        if config.model.lora is not None:
            model = add_adapters(model, config.model.lora, seed=config.seed)
        self.model = model
        self._pieces: dict[int, str] = {}
        check_rounding(model, config.learner.lr)
        with errors_at("model.engine"):
            player = model if generation is None else generation.model
            self.policy: Policy = self._make_policy(player)
        if hasattr(self.policy, "close"):
            self._open.callback(self.policy.close)
        self._engine_weights = EngineWeights(model, self.policy, generation, self.world)
        self._fingerprint = fingerprint(model)
        scorers = open_scorers(
            config,
            self.algorithm,
            self.policy,
            self.tokenizer,
            world=self.world,
            repeat=self._repeating,
            opened=self._open,
        )
        self.learner = Learner(
            model,
            self.algorithm,
            config.learner,
            pad_id=self.tokenizer.pad_token_id or 0,
            temperature=config.rollout.temperature,
            seed=config.seed,
            steps=config.all_steps,
            teacher=scorers.teacher,
            reference=scorers.reference,
            world=self.world,
        )
        self._engine_weights.score = self.learner.score_ids
        scorers.check(self.learner.score_ids, self.world)

    def _make_policy(self, model: Any) -> Policy:
        """Return the engine; of servers that are started for the run, rank 0 starts them and the others ask them."""
        name, options = self.config.model.engine, self._engine_options()
        if name != "vllm" or self.world.size == 1:
            return make_engine(name, model, self.tokenizer, options)
        policies = []

        def start() -> list[str]:
            policies.append(policy := make_engine(name, model, self.tokenizer, options))
            addresses: list[str] = policy.addresses  # type: ignore[attr-defined]
            return addresses

        servers = self.world.from_first(start)
        if not policies:
            others = {key: value for key, value in options.items() if key not in ("start", "devices", "server_options")}
            policies.append(make_engine(name, model, self.tokenizer, {**others, "servers": servers}))
        return policies[0]

    def _engine_options(self) -> dict[str, Any]:
        model = self.config.model
        options = dict(model.engine_options)
        if model.template_options:
            options["template_options"] = model.template_options
        if model.engine == "transformers":
            options["max_batch_tokens"] = model.max_batch_tokens
            options["autocast"] = torch.bfloat16 if self.config.casts_generation else None
        return options

    def _open_tasks(self, state: Mapping[str, Any]) -> None:
        """Make the task stream, the skills, the rollout and the evaluation."""
        config = self.config
        rollout, source, self._split = trained_split(config.rollout, config.split)
        self.stream = TaskStream(
            source, self._split, per_step=config.tasks_per_step, seed=config.seed, limit=config.train_tasks
        )
        self.skills = RunSkills(
            config.skills,
            self.algorithm,
            is_context=not config.context.is_after_play or config.skills.mixed,
            control=context_control(config),
            is_diagnostic=bool(config.evaluation.every and config.evaluation.with_skills),
            suite=self.stream.tasks(1)[0].suite,
            folder=self._ledger_folder(state),
            state={"name": self.folder.resolve().name, **state},
            count_tokens=lambda text: len(self.policy.encode(text)),
        )
        self._open.callback(self.skills.close)
        shown = self.skills.prompts if self.skills.is_shown else None
        self._ahead = rollout_ahead(config, self.policy, self._play)
        self._playing = self.world if self._ahead is None else self.world.apart()
        self.rollout = Rollout(rollout, self.policy, skills=shown, world=self._playing)
        self._open.callback(self.rollout.close)
        if self._ahead is not None:
            self._open.callback(self._ahead.close)
        self.context = RunContext(
            config,
            self.policy,
            rollout,
            self.stream.tasks(1),
            view_count=self.algorithm.teacher_views,
            decode=self._decode,
            world=self.world,
        )
        self.evaluation = Evaluation(
            config.evaluation,
            config.rollout,
            self.policy,
            skills=self.skills.prompts,
            context=self.context,
            world=self.world,
        )
        self._open.callback(self.evaluation.close)

    def _ledger_folder(self, state: Mapping[str, Any]) -> Path:
        """Return where this rank keeps its ledger: the run's folder, or a copy of that of rank 0 in one of its own."""
        if self.world.is_first:
            return self.folder
        folder = Path(self._open.enter_context(tempfile.TemporaryDirectory()))
        if "ledger" in state:
            source = sqlite3.connect(f"{(self.folder / 'ledger.sqlite').absolute().as_uri()}?mode=ro", uri=True)
            with closing(source), closing(sqlite3.connect(folder / "ledger.sqlite")) as target:
                source.backup(target)
        return folder

    def _check_template(self) -> None:
        """Render a prompt with the roles of this run: a template that refuses them does so before the first step."""
        shown = self.skills.prompts if self.skills.is_shown else None
        has_system = self.config.rollout.system or (shown is not None and shown.placement == "system")
        roles = ("system", "user") if has_system else ("user",)
        self.policy.render([{"role": role, "content": "Go on."} for role in roles])

    def _find_problems(self) -> None:
        """Complete `problems`, and log them."""
        config = self.config
        needed = shortest_answer(config.rollout, self.stream.tasks(1)[0].suite, self.policy)
        if needed is not None and config.rollout.max_new_tokens < needed:
            self.problems.append(
                f"rollout.max_new_tokens is {config.rollout.max_new_tokens}, and the shortest answer in the format "
                f"that prompts ask for takes {needed} tokens"
            )
        if self._split == self.evaluation.split:
            self.problems.append(
                f"evaluation plays the split {self._split!r}, which is trained on: set evaluation.split to another one"
            )
        for problem in self.problems if self.world.is_first else ():
            _log.warning("this run may learn little: %s.", problem)

    def _facts(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return what `run.json` says of this run."""
        control = {} if self.config.control is None else {"control": self.config.control}
        return {**given, **control, "fingerprint": self._fingerprint, "problems": self.problems}

    def _open_records(self, saved: Checkpoint | None, state: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Write the configuration, and open what a run writes, as it was at the checkpoint."""
        config, folder = self.config, self.folder
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / CONFIG, config.to_yaml())
        write_facts(folder, facts)
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
                is saved if possible.
        """
        config = self.config
        last: dict[str, float] = {}
        try:
            with Bar(config.all_steps, done=self.step, shown=config.log.progress and self.world.is_first) as bar:
                if self.step == 0:
                    evaluated = config.evaluation.every and config.evaluation.at_start
                    begun = {**(self._evaluate(bar) if evaluated else {}), **self._measured()}
                    if begun:
                        self._log(begun, 0)
                while self.step < config.all_steps:
                    last = self._train(self.step + 1, bar)
                    self.step += 1
                    self._finish_step(last, bar)
                if self._saver is not None:
                    self._saver.finish()
        finally:
            self.close()
        return last

    def _train(self, step: int, bar: Bar) -> dict[str, float]:
        """Do one step; return its metrics."""
        config = self.config
        started = time.perf_counter()
        phases = Phases(self.learner.device)
        self.skills.refresh()
        synced = self._engine_weights.bring(self.step)
        with phases("rollout"):
            result = None if self._ahead is None else self._ahead.take(step)
            if result is None:
                result = self._play(step, lambda done, of: bar.say(f"rollout {done}/{of}"))
        stale = check_versions(result, step, config.max_staleness)
        teach = partial(
            self.context.teach,
            result.trajectories,
            step,
            invalid_penalty=self.algorithm.invalid_penalty,
            piece=self._piece if self.algorithm.needs_teacher else None,
        )
        if config.context.is_after_play:
            bar.say("context")
            with phases("context"):
                lesson = self._repeating(teach)
        else:
            lesson = teach()
        rows = lesson.rows
        if not rows:
            raise InvalidOption(
                f"not one episode of step {step} has a turn: every first prompt was too long. Raise "
                "rollout.max_prompt_tokens, or choose a model with a longer context."
            )
        if self.world.size > 1:
            self.world.check_equal(_digest(rows), f"the rows of step {step}")
        is_recorded = config.log.trajectories_every > 0 and step % config.log.trajectories_every == 0
        if self._ahead is not None and step < config.all_steps:
            self._ahead.begin(step + 1)
        learnt = self.learner.learn(rows, step, phases=phases, progress=bar.say, keep_signals=is_recorded)
        if self._ahead is not None:
            bar.say("rollout")
            with phases("rollout"):
                self._ahead.wait()
        self.skills.record(result, step, learnt.gaps)
        if is_recorded and self.world.is_first:
            self._record(lesson.trajectories, rows, learnt, step)
        metrics = {**result.metrics, **lesson.metrics, **learnt.metrics, **synced, **stale}
        metrics |= {f"rollout/{name}": value for name, value in success_metrics(result.trajectories)}
        seconds = time.perf_counter() - started
        costs = step_costs(result.metrics, self._teacher_tokens(rows), lesson.cost)
        metrics |= self.costs.add(costs, seconds)
        turns = len(rows) if config.rollout.history == "windowed" else int(result.metrics["rollout/turns"])
        return metrics | self._speed(result.metrics, turns, phases.seconds, seconds)

    def _teacher_tokens(self, rows: Sequence[Row]) -> int:
        if not self.algorithm.needs_teacher:
            return 0
        learner = self.config.learner
        rows = self.algorithm.prepare_rows(rows)
        return teacher_tokens(rows, passes=learner.epochs if learner.teacher == "live" else 1)

    def _play(self, step: int, progress: Callable[[int, int], object]) -> RolloutResult:
        """Play the rollout of a step, with the weights that the engine has."""
        config = self.config
        return self._repeating(
            lambda: self.rollout.collect(
                self.stream.tasks(step),
                group_size=config.group_size,
                seed=config.seed,
                step=step,
                progress=progress,
            ),
            self._playing,
        )

    def _repeating(self, play: Callable[[], ResultT], world: World | None = None) -> ResultT:
        """Return what a rollout or an evaluation returns, which is played anew after servers have ended.

        Nothing is lost by that: what is played depends on the seed and the weights alone.

        Args:
            play: collective, and called anew by all ranks.
            world: in which it talks; None for that of the run.
        """
        for attempt in range(1, _ATTEMPTS):
            try:
                return play()
            except EndpointError as error:
                if not hasattr(self.policy, "recover"):
                    raise
                if self.world.is_first:
                    _log.warning("attempt %d of %d to play: %s The engine is started again.", attempt, _ATTEMPTS, error)
                self._engine_weights.recover(world or self.world)
        return play()

    def _speed(
        self, rollout: Mapping[str, float], turns: int, seconds: Mapping[str, float], total: float
    ) -> dict[str, float]:
        """Return times, token rates, mean lengths and memory of a step."""
        prompts, responses = rollout["rollout/prompt_tokens"], rollout["rollout/response_tokens"]
        metrics = {f"time/{name}": value for name, value in seconds.items()}
        metrics["time/step"] = total
        metrics["tokens/per_second"] = (prompts + responses) / total
        metrics["tokens/generated_per_second"] = responses / max(rollout.get(SECONDS, seconds["rollout"]), 1e-9)
        if "update" in seconds:
            metrics["tokens/updated_per_second"] = (prompts + responses) / max(seconds["update"], 1e-9)
        metrics["rollout/response_length"] = responses / turns
        metrics["rollout/prompt_length"] = prompts / turns
        metrics["memory/peak_gib"] = _peak_memory(self.learner.device)
        return metrics

    def _finish_step(self, metrics: dict[str, float], bar: Bar) -> None:
        """Evaluate, log and save as is due after a step; stop the run if its updates stay broken."""
        config, step = self.config, self.step
        stopped = self.learner.skipped_in_a_row >= config.learner.stop_after_skips
        if not stopped and _is_due(step, config.evaluation.every, config.all_steps):
            metrics |= self._evaluate(bar)
        metrics |= self._measured()
        self._log(metrics, step)
        bar.step(metrics)
        if stopped or _is_due(step, config.checkpoints.every or config.all_steps, config.all_steps):
            bar.say("checkpoint")
            self.save(metrics.get(config.evaluation.best_by))
        if self._saver is not None:
            self._saver.finish() if stopped else self._saver.poll()
        if stopped:
            raise RunStopped(
                f"{self.learner.skipped_in_a_row} optimiser steps in a row had a loss or gradient that is not finite; "
                f"the run stopped at step {step}, its state is in {self.checkpoints.folder}. The weights are those "
                "before these steps: look at the last rows of metrics.jsonl, and give the last checkpoint's model to a "
                "new run with a lower learner.lr."
            )

    def _evaluate(self, bar: Bar) -> dict[str, float]:
        """Play the panel and write its episodes; return its metrics."""
        started = time.perf_counter()
        kept = self._start_evaluations() if self.step == 0 else None
        found = None if kept is None else self.world.from_first(kept.read)
        if found is None:
            self._engine_weights.bring(self.step)
            found = self._repeating(lambda: self.evaluation.run(bar.say))
            if kept is not None and self.world.is_first:
                with self._writing():
                    kept.write(*found)
        metrics, rows = found
        with self._writing():
            for row in rows if self.world.is_first else ():
                self._evaluations.append({"step": self.step, **row})
        return {**metrics, "time/evaluation": time.perf_counter() - started}

    def _measured(self) -> Mapping[str, float]:
        if self._measure is None:
            return {}
        self._engine_weights.bring(self.step)
        return self._measure(self)

    def _start_evaluations(self) -> StartEvaluations | None:
        """Return where the evaluation of the start is kept; None if it is not."""
        folder = self.config.evaluation.starts
        if folder is None:
            return None
        shown = None if self.skills.prompts is None else [(skill.id, skill.sha256) for skill in self.skills.library]
        return StartEvaluations(Path(folder), self.config, self._fingerprint, shown)

    # -- records ----------------------------------------------------------------------------

    def _record(self, played: Sequence[Trajectory], rows: Sequence[Row], learnt: LearnResult, step: int) -> None:
        """Write the trajectories of the step's first groups, with the teacher's prompt, gaps and gates."""
        groups = list(dict.fromkeys(trajectory.group_id for trajectory in played))
        written = set(groups[: self.config.log.trajectory_groups])
        trajectories = [trajectory for trajectory in played if trajectory.group_id in written]
        marks: Iterator[Any] | None = None
        if self.algorithm.needs_teacher and learnt.signals is not None:
            # Rows are in the order of the trajectories, so those of the first groups come first.
            ids = {trajectory.episode_id for trajectory in trajectories}
            count = sum(row.episode_id in ids for row in rows[: sum(len(t.turns) for t in trajectories)])
            signals = TokenSignals(*(part[:count] for part in learnt.signals))
            marks = iter(turn_marks(rows[:count], token_marks(rows[:count], signals, self._piece)))
        with self._writing():
            for trajectory in trajectories:
                tokens = None if marks is None else [next(marks) for _ in trajectory.turns]
                row = trajectory_row(trajectory, tokens=tokens, decode=self._decode, details={"step": step})
                self._trajectories.append([row])

    def _piece(self, token: int) -> str:
        """Return the text of one token."""
        if token not in self._pieces:
            self._pieces[token] = self._decode([token])
        return self._pieces[token]

    def _decode(self, ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    def _log(self, metrics: Mapping[str, float], step: int) -> None:
        # A mean of nothing is NaN, which JSON does not have.
        if not self.world.is_first:
            return
        finite = {name: value for name, value in sorted(metrics.items()) if math.isfinite(value)}
        with self._writing():
            self._metrics.append({"step": step, **finite})
            self._tracker.log(finite, step)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn an error of the disk into one that says how to continue."""
        try:
            yield
        except OSError as error:
            found = self.checkpoints.all()
            start = f"the checkpoint of step {found[-1].step}" if found else "the beginning"
            raise RunStopped(
                f"the records in {self.folder} cannot be written ({error}): free some space and resume, which "
                f"continues from {start}."
            ) from error

    def close(self) -> None:
        """Close files and environments.

        Raises:
            RunStopped: a tracker cannot write its last metrics.
        """
        with self._writing():
            self._open.close()

    # -- checkpoints ------------------------------------------------------------------------

    def save(self, value: float | None = None) -> None:
        """Write a checkpoint of the step that was just done; of a sharded model, in the background.

        Args:
            value: of the evaluation, by which the best is kept.

        Raises:
            RunStopped: it cannot be written; the one before is untouched.
        """

        def save_model(path: Path) -> None:
            with without_bars():
                self.model.save_pretrained(path)
                self.tokenizer.save_pretrained(path)

        state = {
            **self.skills.state_dict(),
            "context": dict(self.context.state_dict()),
            "costs": self.costs.state_dict(),
            "fingerprint": self._fingerprint,
            "trajectories": self._trajectories.size if self.world.is_first else 0,
        }
        tensors: dict[str, Any] = {"random": torch.get_rng_state()}
        if self.learner.device.type == "cuda":
            tensors["random_cuda"] = torch.cuda.get_rng_state(self.learner.device)
        ahead = {} if self._ahead is None else {"ahead": self._ahead.state()}
        if self._saver is not None:
            # Of each rank; nothing here draws from torch's own generator, an environment of yours may.
            tensors = {"ranks": self.world.gather(tensors), "skipped_in_a_row": self.learner.skipped_in_a_row, **ahead}
            self._saver.save(self.step, self.model, self.learner, tensors, state, value=value)
            return
        tensors = {**self.learner.state_dict(), **tensors, **ahead}
        self.world.from_first(lambda: self.checkpoints.save(self.step, save_model, tensors, state, value=value))

    def _restore(self, saved: Checkpoint, state: Mapping[str, Any]) -> None:
        if state["fingerprint"] != self._fingerprint:
            raise InvalidOption(
                f"{self.config.model.path} is not the model that this run began with: its weights are the reference, "
                "and must be the same. Give model.path as it was."
            )
        self.context.load_state_dict(state.get("context", {}))
        self.costs.load_state_dict(state.get("costs", {}))
        tensors = saved.read_tensors()
        if self._ahead is not None:
            self._ahead.load_state(tensors["ahead"])
        if saved.is_sharded:
            load_shards(saved, self.model, self.learner)
            self.learner.skipped_in_a_row = tensors["skipped_in_a_row"]
            ranks = tensors["ranks"]
            tensors = ranks[min(self.world.rank, len(ranks) - 1)]
        else:
            with without_bars():
                load_weights(self.model, saved.model)
            self.learner.load_state_dict(tensors)
        torch.set_rng_state(tensors["random"])
        if "random_cuda" in tensors and self.learner.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random_cuda"], self.learner.device)
        self.step = saved.step


def _digest(rows: Sequence[Row]) -> str:
    """Return a checksum of what may differ between ranks: returns, lengths and prompts of the rows."""
    told = [
        (row.episode_id, row.score, len(row.response_ids), hash(row.prompt_ids), hash(row.teacher_prompt_ids or ()))
        for row in rows
    ]
    return hashlib.sha256(repr(told).encode()).hexdigest()


def _is_due(step: int, every: int, steps: int) -> bool:
    return bool(every) and (step % every == 0 or step == steps)


def _peak_memory(device: torch.device) -> float:
    """Return the peak memory so far in GiB: the accelerator's, or without one the process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    if sys.platform == "win32":
        return math.nan  # not available without another library
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)
