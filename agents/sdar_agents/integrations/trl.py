"""TRL: SDAR's distillation term in `GRPOTrainer`, with a teacher that reads skills.

    trainer = SDARTrainer(
        model="Qwen/Qwen3-0.6B",
        args=GRPOConfig(max_tool_calling_iterations=50, max_completion_length=8192),
        train_dataset=make_dataset("sdar/ALFWorld-v0", split="train", limit=1000),
        environment_factory=ALFWorldTools,
        teacher=SkillTeacher("sdar/ALFWorld-v0", action_format="tools"),
    )

    L = L_TRL + distill_coef agg(g_t (T_t - S_t))

with the gate g and the gap T - S of `sdar_agents.algorithms.SDAR`. S are the log-probabilities that TRL's loss is made
of, T those of the same tokens behind the teacher's prompt, under the weights of the rollout; agg is the aggregation of
TRL's `loss_type`. With a coefficient of 0 the trainer is `GRPOTrainer`.

Of TRL 1.16 it reaches into:

- `GRPOTrainer._generate_and_score_completions`, overridden: `teacher_per_token_logps` and `has_teacher` are added to
  what it returns, of which `completion_ids`, `completion_mask`, `tool_mask` and `num_items_in_batch` are read;
- `GRPOTrainer._compute_loss`, overridden: the term is added to the loss;
- `GRPOTrainer._get_per_token_logps_and_entropies`, called for T, and overridden to keep S and the loss's entropies;
- `GRPOTrainer._tokenize_prompts`, called for the teacher's prompts;
- `GRPOTrainer._metrics`, in which the term's metrics are logged, and the attributes `loss_type`, `args`, `accelerator`,
  `max_completion_length`, `environment_factories`, `num_generations`, `current_gradient_accumulation_steps`.

Another minor version of TRL is refused.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from sdar_agents.algorithms.algorithm import Algorithm
from sdar_agents.algorithms.distiller import Distiller
from sdar_agents.algorithms.gap import conflict_metric, gap_metrics
from sdar_agents.algorithms.grpo import GRPO
from sdar_agents.algorithms.losses import aggregate
from sdar_agents.algorithms.methods.sdar import SDAR
from sdar_agents.scoring.batch import Batch, Sequences
from sdar_agents.scoring.head import Scores
from sdar_agents.scoring.metrics import Metric, summarise
from sdar_agents.scoring.options import ScoringOptions
from sdar_agents.skill_use.prompts import SkillPrompts
from sdar_envs.chat import ChatEpisode, Messages
from sdar_envs.control_tokens import break_control_tokens
from sdar_envs.errors import InvalidOption
from sdar_envs.importing import extra_imports
from sdar_envs.integrations.trl import check_version
from sdar_envs.rng import derive_seed
from sdar_skills import Library, make_retriever, teacher_context

with extra_imports("trl", purpose="sdar_agents.integrations.trl"):
    from trl import GRPOTrainer
    from trl.trainer.utils import pad

__all__ = ["SDARTrainer", "SkillTeacher"]

SUM_OF_TOKENS = ("dapo", "cispo", "vespo")
MEAN_OF_SEQUENCES = ("grpo", "sapo")

_OF_TRAINER = ("advantages", "prepare_rows", "shape_advantages", "shapes_advantages", "token_advantages")


class SkillTeacher:
    """The teacher's prompts: the first prompt of a task's episode, with skills in it.

    Args:
        env_id: the environment whose tasks are trained on.
        skills: which skills are shown and where; None for those of the task's type, out of this package's library.
        style: the prompt style of the rollouts.
        action_format: `tools` for rollouts with tools; None for the style's.
        seed: of strategies that draw skills.
        **env_kwargs: arguments of the environment, as in the rollouts.

    Raises:
        InvalidOption: the skills would not stand in the messages.
    """

    def __init__(
        self,
        env_id: str,
        *,
        skills: SkillPrompts | None = None,
        style: Any = None,
        action_format: Any = None,
        seed: int = 0,
        **env_kwargs: Any,
    ) -> None:
        self.skills = skills or SkillPrompts(make_retriever("task_type", Library.load()))
        if self.skills.placement == "legacy_prefix":
            raise InvalidOption("placement is legacy_prefix, which is outside of all messages: choose user or system.")
        if self.skills.reader != "teacher":
            raise InvalidOption(f"reader is {self.skills.reader}; wanted teacher: TRL's rollouts show no skills.")
        self._episode = ChatEpisode(env_id, style=style, action_format=action_format, **env_kwargs)
        self._seed = seed

    def messages(self, task_id: str, *, step: int = 0, member: int = 0, group_size: int = 1) -> Messages | None:
        """Return the teacher's prompt; None for a control, which has no teacher.

        Args:
            task_id: the task.
            step: of the run; for strategies that draw.
            member: number of the completion in its group, from 0.
            group_size: completions of each task.

        Raises:
            UnknownName: there is no such task, or the library has no skills for it.
        """
        self._episode.reset(task_id=task_id)
        group = derive_seed(self._seed, f"{step}/{task_id}")
        seeds = (group, derive_seed(group, str(member)))
        chosen = self.skills.choose(self._episode.env.task, member, group_size, seeds)
        if chosen is None:
            return None
        context = teacher_context(self._episode.parts, chosen, self.skills.placement)
        return [{**message, "content": break_control_tokens(message["content"])} for message in context.messages]


class SDARTrainer(GRPOTrainer):  # type: ignore[misc]
    """`trl.GRPOTrainer` with SDAR's distillation term in its loss.

    Rows need a column `task_id`, as those of `sdar_envs.integrations.trl.make_dataset` have.

    Args:
        *args: as for `GRPOTrainer`.
        teacher: gives the teacher's prompts.
        distiller: the method whose term is added: `SDAR`, `SkillSD`, `OPSD` or another `Distiller`. What it has of GRPO
            (clip, KL, advantages) is TRL's here and set in `GRPOConfig`.
        **kwargs: as for `GRPOTrainer`.

    Raises:
        InvalidOption: TRL is of another version, or the method cannot be a term of TRL's loss.
    """

    def __init__(self, *args: Any, teacher: SkillTeacher, distiller: Distiller | None = None, **kwargs: Any) -> None:
        check_version("SDARTrainer")
        self.teacher = teacher
        self.distiller = SDAR() if distiller is None else distiller
        _check_distiller(self.distiller)
        self._kept: Scores | None = None
        super().__init__(*args, **kwargs)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        prompts, has_teacher = self._teacher_prompts(inputs)
        ids, _, _ = self._tokenize_prompts(prompts)
        device = output["completion_ids"].device
        padding = {"padding_side": "left", "padding_value": self._tokenizer.pad_token_id}
        prompt_ids = pad([torch.tensor(row) for row in ids], **padding).to(device)
        prompt_mask = pad([torch.ones(len(row), dtype=torch.long) for row in ids], padding_side="left").to(device)
        with torch.no_grad():
            teacher, _, _ = self._get_per_token_logps_and_entropies(
                self.model,
                torch.cat([prompt_ids, output["completion_ids"]], dim=1),
                torch.cat([prompt_mask, output["completion_mask"]], dim=1),
                output["completion_ids"].shape[1],
                batch_size=self.args.per_device_train_batch_size,
            )
        return {
            **output,
            "teacher_per_token_logps": teacher,
            "has_teacher": torch.tensor(has_teacher, device=device),
        }

    def _teacher_prompts(self, inputs: list[dict[str, Any]]) -> tuple[list[Messages], list[bool]]:
        prompts, has_teacher, members = [], [], Counter[str]()
        for row in inputs:
            if "task_id" not in row:
                raise InvalidOption("a row has no task_id, which names its teacher's prompt: use make_dataset's rows.")
            task_id = row["task_id"]
            messages = self.teacher.messages(
                task_id,
                step=self.state.global_step,
                member=members[task_id] % self.num_generations,
                group_size=self.num_generations,
            )
            members[task_id] += 1
            has_teacher.append(messages is not None)
            prompts.append(messages or [{"role": "user", "content": "-"}])
            if messages and self.environment_factories is not None and row.get("prompt"):
                # TRL puts what an environment's reset returns behind the row's own prompt.
                *before, last = row["prompt"]
                prompts[-1] = [*before, {**last, "content": last["content"] + messages[-1]["content"]}]
        return prompts, has_teacher

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
        found = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        self._kept = Scores(found[0], found[1])
        return found

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        of_trl: Tensor = super()._compute_loss(model, inputs)
        scores, self._kept = self._kept, None
        assert scores is not None
        mask = inputs["completion_mask"]
        mask = (mask * inputs["tool_mask"] if "tool_mask" in inputs else mask).bool()
        batch = _batch(inputs, mask, scores)
        vocabulary = math.log(self.model.config.get_text_config().vocab_size)
        term = self.distiller.distillation(batch, scores, vocabulary)
        assert term is not None
        signal = term.gap.detach()
        conflict = conflict_metric(signal, term.gate, inputs["advantages"], batch)
        self._log_term({**term.metrics, **gap_metrics(signal, batch), "distill/conflict": conflict})
        coefficient = term.coefficient * self.distiller.coefficients(self.state.global_step + 1).distill
        if not coefficient:
            return of_trl
        weights = self._weights(inputs, mask) * batch.teacher_mask
        return of_trl.add(aggregate(term.losses, weights), alpha=coefficient)

    def _weights(self, inputs: Mapping[str, Any], mask: Tensor) -> Tensor:
        """Return the weights `(B, L)` by which TRL's loss type sums the losses of tokens."""
        weights, training = mask.float(), self.model.training
        steps: int = self.current_gradient_accumulation_steps if training else 1
        if self.loss_type in SUM_OF_TOKENS:
            tokens: Tensor = inputs["num_items_in_batch"].clamp(min=1.0) / self.accelerator.num_processes
            windows: float = steps / self.args.steps_per_generation if training else 1.0
            return weights / (tokens * windows)
        if self.loss_type == "bnpo":
            return weights / weights.sum().clamp(min=1.0) / steps
        if self.loss_type in MEAN_OF_SEQUENCES:
            return weights / weights.sum(-1, keepdim=True).clamp(min=1.0) / len(mask) / steps
        if self.loss_type == "dr_grpo":
            limit: int = self.max_completion_length
            return weights / (len(mask) * limit) / steps
        if self.loss_type == "luspo":
            return weights / len(mask) / steps
        raise InvalidOption(f"loss_type is {self.loss_type!r}, whose aggregation of tokens is not known here.")

    def _log_term(self, metrics: Mapping[str, Metric]) -> None:
        mode = "train" if self.model.training else "eval"
        for name, value in summarise(metrics).items():
            gathered = self.accelerator.gather(torch.tensor(value, device=self.accelerator.device))
            self._metrics[mode][name].append(gathered.nanmean().item())


def _check_distiller(distiller: Algorithm) -> None:
    """Refuse a method whose loss is not GRPO's with one more term, and settings of the part that is TRL's."""
    if not isinstance(distiller, Distiller) or type(distiller).loss is not GRPO.loss:
        name = type(distiller).__name__
        raise InvalidOption(f"the method is {name}; wanted one that adds a term to GRPO's loss, such as SDAR.")
    kind = type(distiller)
    own = [name for name in _OF_TRAINER if getattr(kind, name) is not getattr(GRPO, name)]
    if own or kind.teacher_views != 1:
        raise InvalidOption(
            f"{kind.__name__} has {', '.join(own) or 'several teachers'} of its own, and these are TRL's here: choose "
            "another method, such as SDAR."
        )
    if distiller.scoring_options(ScoringOptions()).divergence is not None:
        raise InvalidOption("the divergence needs the whole vocabulary, which TRL's loss has not: choose sampled.")
    if not getattr(distiller, "gate_detach", True) and getattr(distiller, "gate", "gap") != "gap":
        raise InvalidOption("gate_detach is off, but TRL's entropies have no gradient: choose the gate gap.")
    for entry in fields(GRPO):
        if getattr(distiller, entry.name) != getattr(SDAR(), entry.name):
            raise InvalidOption(
                f"{entry.name} is a setting of GRPO's part of the loss, which is TRL's here: set it in GRPOConfig."
            )


def _batch(inputs: Mapping[str, Any], mask: Tensor, scores: Scores) -> Batch:
    """Return what a distillation term reads of a batch."""
    rows = torch.arange(len(mask), device=mask.device)
    prompts, lengths = inputs["prompt_mask"].sum(dim=1), inputs["completion_mask"].sum(dim=1)
    old = inputs.get("old_per_token_logps")
    return Batch(
        student=Sequences(torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1), prompts, lengths),
        mask=mask,
        group_index=rows,
        episode_index=rows,
        turn_index=torch.zeros_like(rows),
        row_index=rows,
        has_teacher=inputs["has_teacher"],
        teacher_logprobs=inputs["teacher_per_token_logps"],
        old_logprobs=scores.logprobs.detach() if old is None else old,
        sampler_logprobs=inputs.get("sampling_per_token_logps"),
    )
