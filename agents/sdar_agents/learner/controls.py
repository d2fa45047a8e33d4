"""Negative controls of the teacher: what a method gains if the teacher's signal is spoilt in one respect.

    permuted-weights     the gaps T - O of a step, dealt out again among its tokens at random
    no-sign              T = O + |T - O|: the gaps keep their size and lose their sign
    teacher-is-student   the teacher reads the student's prompt, with the student's weights

A method that does as well under a control does not owe its gain to what the control takes away. They act on the
teacher's log-probabilities, so they go with every method that reads those.

Source: the permutation is that of ICSD's ablation (arXiv 2608.14945).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from sdar_agents.scoring.batch import Batch
from sdar_agents.types import Row

__all__ = ["TeacherControl", "control_batch", "control_rows"]

TeacherControl = Literal["none", "permuted-weights", "no-sign", "teacher-is-student"]
"""Negative control of the teacher; see the module."""


def control_rows(rows: Sequence[Row], control: TeacherControl) -> Sequence[Row]:
    """Return the rows; those of `teacher-is-student` with the student's prompt in place of each of the teacher's."""
    if control != "teacher-is-student":
        return rows
    return [
        replace(
            row,
            teacher_prompt_ids=None if row.teacher_prompt_ids is None else row.prompt_ids,
            more_teacher_prompts=tuple(None if ids is None else row.prompt_ids for ids in row.more_teacher_prompts),
        )
        for row in rows
    ]


def control_batch(batch: Batch, control: TeacherControl, seed: int) -> Batch:
    """Return the batch with the teacher's log-probs spoilt; each of its views by itself.

    Args:
        batch: of a whole step, with `old_logprobs` and `teacher_logprobs`.
        control: see `TeacherControl`.
        seed: of the permutation.
    """
    if control not in ("permuted-weights", "no-sign"):
        return batch
    old = batch.part("old_logprobs")
    generator = torch.Generator().manual_seed(seed)

    def spoilt(teacher: Tensor, mask: Tensor) -> Tensor:
        gaps = (teacher - old)[mask]
        gaps = gaps.abs() if control == "no-sign" else gaps[torch.randperm(len(gaps), generator=generator)]
        return torch.zeros_like(teacher).masked_scatter(mask, old[mask] + gaps)

    teacher = spoilt(batch.part("teacher_logprobs"), batch.teacher_mask)
    views = tuple(
        view
        if view.logprobs is None
        else replace(view, logprobs=spoilt(view.logprobs, batch.mask & view.is_there[:, None]))
        for view in batch.more_teachers
    )
    # Not Batch.replace, which refuses a teacher's log-probs where no row has a teacher.
    return replace(batch, teacher_logprobs=teacher, more_teachers=views)
