"""Forward and backward passes of a step: in one process, or divided among the ranks of a run.

Every rank has all rows of a step, and all mini-batches. It runs the passes over its share of the rows, which has about
as many tokens as the others', and the ranks add up what they found: scores, gradients, metrics. The weights of the loss
are those of the whole mini-batch, so the gradient does not depend on the number of ranks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from sdar_agents.learner.measures import StepRecord, add_gradients, compare_gradients
from sdar_agents.learner.settings import LearnerSettings
from sdar_agents.learner.sharding import local_part, reshard, run_sharded, shard, whole
from sdar_agents.learner.token_marks import TokenSignals
from sdar_agents.parallel import World
from sdar_agents.scoring.batch import Batch, Sequences, pack_rows
from sdar_agents.scoring.head import Scores, TeacherView
from sdar_agents.scoring.logprobs import score, score_rows, view_teacher
from sdar_agents.scoring.options import ScoringOptions
from sdar_agents.scoring.packing import packs_trees
from sdar_agents.scoring.shared_prefixes import score_shared_prefixes

__all__ = ["Passes", "make_passes", "share_by_tokens"]

ResultT = TypeVar("ResultT")


def make_passes(model: nn.Module, settings: LearnerSettings, world: World) -> Passes:
    """Return the passes of a model, which is sharded if the settings say so. Collective.

    Args:
        model: whole, and equal on all ranks.
        settings: `shard`, and `max_tokens` of a micro-batch on each rank.
        world: the ranks.
    """
    if world.size == 1:
        return Passes(model, settings, world)
    if settings.shard == "none":
        return ReplicatedPasses(model, settings, world)
    shard(model, world)
    return ShardedPasses(model, settings, world)


def share_by_tokens(lengths: Sequence[int], shares: int) -> list[list[int]]:
    """Divide rows into shares of about equally many tokens, the longest rows first; in each, rows keep their order."""
    parts: list[list[int]] = [[] for _ in range(shares)]
    totals = [0] * shares
    for row in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        least = min(range(shares), key=totals.__getitem__)
        parts[least].append(row)
        totals[least] += lengths[row]
    return [sorted(part) for part in parts]


class Passes:
    """The passes of one process.

    Args:
        model: that is trained.
        settings: of the learner.
        world: the ranks.
    """

    def __init__(self, model: nn.Module, settings: LearnerSettings, world: World) -> None:
        self.model = model
        self.settings = settings
        self.world = world
        self._by_prefix = settings.packing and packs_trees(model)

    # -- scores without gradients -----------------------------------------------------------

    def score_rows(self, sequences: Sequences, mask: Tensor, options: ScoringOptions) -> Scores:
        """Return the scores of all rows (`sdar_agents.scoring.logprobs.score_rows`). Collective."""
        return score_rows(self.model, sequences, mask, options, max_tokens=self.settings.max_tokens)

    def score_shared_prefixes(self, sequences: Sequences, mask: Tensor, options: ScoringOptions) -> Tensor:
        """Return the log-probs of all rows, many of which begin alike. Collective."""
        return score_shared_prefixes(self.model, sequences, mask, options, max_tokens=self.settings.max_tokens)

    # -- updates ----------------------------------------------------------------------------

    def micro_batches(self, mini: Batch) -> Iterator[Batch | None]:
        """Yield the micro-batches of a mini-batch; None for a pass of this rank that another needs. Collective."""
        pieces = mini.split(self.settings.max_tokens, by_prefix=self._by_prefix)
        return (piece for piece in pieces if piece.mask.any())

    def score(self, batch: Batch, options: ScoringOptions, *, teacher: TeacherView | None) -> Scores:
        """Return the scores of a micro-batch, with gradient."""
        return score(self.model, batch.student, batch.mask, options, teacher=teacher)

    def view_teacher(self, batch: Batch) -> TeacherView:
        """Return the teacher's distributions for a micro-batch; the model has the teacher's weights."""
        return view_teacher(self.model, batch, packing=self.settings.packing)

    def idle(self, mini: Batch) -> Batch:
        """Return the shortest row of a mini-batch, for a pass without a loss."""
        rows = mini.mask.any(dim=1).nonzero()[:, 0]
        return mini.select(rows[mini.student.lengths[rows].argmin()][None])

    def add_gradients(
        self, sums: dict[str, list[Tensor]], terms: dict[str, Tensor], parameters: Sequence[nn.Parameter]
    ) -> None:
        """Add the gradients of the terms of a micro-batch's loss to their sums; see `measures.add_gradients`.

        Args:
            sums: by term; changed.
            terms: with their graph; empty for a pass of this rank that another needs.
            parameters: what is trained.
        """
        add_gradients(sums, terms, parameters)

    def compare_gradients(self, sums: dict[str, list[Tensor]], parameters: Sequence[nn.Parameter]) -> dict[str, float]:
        """Return norms, ratio and cosine of the terms' gradients. Collective."""
        return compare_gradients(sums)

    def end_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Complete the gradients after the last micro-batch. Collective."""

    def clip(self, parameters: Sequence[nn.Parameter], limit: float) -> float:
        """Clip the gradient of a mini-batch; return its norm before. Collective."""
        return float(whole(nn.utils.clip_grad_norm_(parameters, limit)))

    # -- records ----------------------------------------------------------------------------

    def end_record(self, record: StepRecord) -> None:
        """Complete a step's record with what the other ranks noted of their rows. Collective."""


class ReplicatedPasses(Passes):
    """Passes of several processes, each of which has the whole model; gradients are summed once per mini-batch."""

    def score_rows(self, sequences: Sequences, mask: Tensor, options: ScoringOptions) -> Scores:
        """Return the scores of all rows, each computed by one of the ranks."""
        device = next(self.model.parameters()).device
        results = [torch.zeros(mask.shape) for _ in range(1 + options.entropies)]
        scored = mask.any(dim=1).nonzero()[:, 0]
        if not len(scored):
            return Scores(*(part.to(mask.device) for part in results))
        lengths = sequences.lengths[scored].tolist()
        mine = scored[share_by_tokens(lengths, self.world.size)[self.world.rank]]
        groups = pack_rows(sequences.select(mine), self.settings.max_tokens, by_prefix=self._by_prefix)
        shortest = int(scored[sequences.lengths[scored].argmin()])
        for number in range(self._rounds(len(groups))):
            is_own = number < len(groups)
            index = mine[groups[number]] if is_own else torch.tensor([shortest])
            piece = sequences.select(index)
            own = mask[index, : int(piece.response_lengths.max())]
            with torch.no_grad():
                scores = self._run(score, self.model, piece.to(device), own.to(device), options)
            if is_own:
                for result, part in zip(results, scores, strict=False):
                    assert part is not None
                    result[index, : own.shape[1]] = part.to(result)
        return Scores(*(self.world.add(part).to(mask.device) for part in results))

    def score_shared_prefixes(self, sequences: Sequences, mask: Tensor, options: ScoringOptions) -> Tensor:
        """Return the log-probs of all rows, each computed by one of the ranks; nothing is shared between rows."""
        return self.score_rows(sequences, mask, options).logprobs

    def micro_batches(self, mini: Batch) -> Iterator[Batch | None]:
        """Yield the micro-batches of this rank's share of a mini-batch."""
        trained = mini.mask.any(dim=1).nonzero()[:, 0]
        share = share_by_tokens(mini.student.lengths[trained].tolist(), self.world.size)[self.world.rank]
        own = mini.select(trained[share])
        pieces = own.split(self.settings.max_tokens, by_prefix=self._by_prefix) if share else []
        # Before the first pass: a rank that asks after its last one waits for those that are in passes without it.
        rounds = self._rounds(len(pieces))
        yield from pieces
        for _ in range(rounds - len(pieces)):
            yield None

    def compare_gradients(self, sums: dict[str, list[Tensor]], parameters: Sequence[nn.Parameter]) -> dict[str, float]:
        """Return norms, ratio and cosine of the terms' gradients, over all ranks."""
        for name in dict.fromkeys(name for found in self.world.gather(list(sums)) for name in found):
            for grad in sums.setdefault(name, [torch.zeros_like(parameter) for parameter in parameters]):
                self.world.add(grad)
        return compare_gradients(sums)

    def end_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Sum the gradients over the ranks."""
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            self.world.add(parameter.grad)

    def end_record(self, record: StepRecord) -> None:
        """Add up the gaps of episodes, and collect the signals of tokens."""
        self.world.add(record.gap_sums)
        differences = [each for each in self.world.gather(record.sampler_difference) if each is not None]
        record.sampler_difference = max(differences, default=None)
        if record.signals is not None:
            record.signals = TokenSignals(*map(self._merged, record.signals))

    def _merged(self, part: Tensor) -> Tensor:
        """Return numbers that are NaN on all ranks but one."""
        known = self.world.add((~part.isnan()).to(part.dtype))
        values = self.world.add(part.nan_to_num(nan=0.0))
        return values.masked_fill(known == 0, math.nan)

    def _rounds(self, passes: int) -> int:
        """Return how many passes this rank makes."""
        return passes

    def _run(self, function: Callable[..., ResultT], *args: Any, **kwargs: Any) -> ResultT:
        return function(*args, **kwargs)


class ShardedPasses(ReplicatedPasses):
    """Passes of several processes that share one sharded model: a pass is collective, so all ranks make equally many.

    FSDP averages gradients over the ranks, which here are parts of a sum.
    """

    def score_rows(self, sequences: Sequences, mask: Tensor, options: ScoringOptions) -> Scores:
        """Return the scores of all rows, each computed by one of the ranks."""
        scores = super().score_rows(sequences, mask, options)
        # FSDP keeps what is outside of the layers gathered until a backward pass, which does not come.
        reshard(self.model)
        return scores

    def score(self, batch: Batch, options: ScoringOptions, *, teacher: TeacherView | None) -> Scores:
        """Return the scores of a micro-batch, with gradient."""
        return self._run(score, self.model, batch.student, batch.mask, options, teacher=teacher)

    def view_teacher(self, batch: Batch) -> TeacherView:
        """Return the teacher's distributions for a micro-batch, with a copy of the head: the gathered one is freed."""
        return self._run(self._copied_view, batch)

    def add_gradients(
        self, sums: dict[str, list[Tensor]], terms: dict[str, Tensor], parameters: Sequence[nn.Parameter]
    ) -> None:
        """Add the gradients of the terms, each by a backward pass of its own that FSDP sees, to their sums."""
        names = sorted({name for found in self.world.gather(list(terms)) for name in found} & {"policy", "distill"})
        own = [parameter.grad for parameter in parameters]
        anchor = next(term for term in terms.values() if term.requires_grad)
        for name in names:
            for parameter in parameters:
                parameter.grad = None
            term = terms.get(name, anchor * 0.0)
            (term if term.requires_grad else anchor * 0.0).backward(retain_graph=True)  # type: ignore[no-untyped-call]
            so_far = sums.setdefault(name, [torch.zeros_like(local_part(parameter)) for parameter in parameters])
            for total, parameter in zip(so_far, parameters, strict=True):
                if parameter.grad is not None:
                    total.add_(local_part(parameter.grad), alpha=self.world.size)
        for parameter, grad in zip(parameters, own, strict=True):
            parameter.grad = grad

    def compare_gradients(self, sums: dict[str, list[Tensor]], parameters: Sequence[nn.Parameter]) -> dict[str, float]:
        """Return norms, ratio and cosine of the terms' gradients, of which this rank has a part."""
        return compare_gradients(sums, total=lambda part: self.world.sum(part)[0])

    def end_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Make the mean of FSDP a sum."""
        for parameter in parameters:
            if parameter.grad is not None:
                local_part(parameter.grad).mul_(self.world.size)

    def _rounds(self, passes: int) -> int:
        return int(self.world.largest(passes))

    def _run(self, function: Callable[..., ResultT], *args: Any, **kwargs: Any) -> ResultT:
        return run_sharded(self.model, function, *args, **kwargs)

    def _copied_view(self, batch: Batch) -> TeacherView:
        view = view_teacher(self.model, batch, packing=self.settings.packing)
        return TeacherView(view.states, view.weight.clone(), None if view.bias is None else view.bias.clone())
