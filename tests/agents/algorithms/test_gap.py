"""The gap: teacher minus student log-probability, of the current policy or of the rollout."""

from typing import Any

import pytest
import torch
from helpers.tiny_models import random_rows, scored_batch, tiny_model

from sdar_agents.algorithms import ALGORITHMS, GRPO, SDAR, UCOB, Algorithm
from sdar_agents.algorithms import make_algorithm as make_any_algorithm
from sdar_agents.algorithms.gap import gap
from sdar_agents.scoring.batch import Batch
from sdar_agents.scoring.head import Scores
from sdar_agents.scoring.logprobs import score, view_teacher
from sdar_agents.scoring.options import ScoringOptions
from sdar_envs.errors import InvalidOption


def make_algorithm(name: str, **settings: Any) -> Any:
    return make_any_algorithm(name, **({"suite": "alfworld"} | settings))


def whole(batch: Batch, algorithm: Algorithm) -> Batch:
    return batch.weighed(algorithm.aggregation, response_limit=algorithm.response_limit)


@pytest.fixture(scope="module")
def batch() -> Batch:
    return scored_batch(random_rows(11))


def test_the_gap_is_to_the_current_policy_with_its_gradient_or_to_the_old_one_without(batch: Batch) -> None:
    scores = Scores(torch.full(batch.mask.shape, -1.0, requires_grad=True))
    assert batch.teacher_logprobs is not None
    assert batch.old_logprobs is not None
    current = gap(batch, scores)
    assert torch.equal(current.detach(), batch.teacher_logprobs + 1.0)
    (slope,) = torch.autograd.grad(current.sum(), scores.logprobs)
    assert (slope == -1).all()
    old = gap(batch, scores, "old")
    assert torch.equal(old, batch.teacher_logprobs - batch.old_logprobs)
    assert not old.requires_grad
    with pytest.raises(InvalidOption, match=r"no gap 'olt'; wanted current or old. Did you mean 'old'"):
        gap(batch, scores, "olt")  # type: ignore[arg-type]
    with pytest.raises(InvalidOption, match="needs teacher_logprobs in the batch"):
        gap(batch.replace(teacher_logprobs=None), scores)
    with pytest.raises(InvalidOption, match=r"logprobs must have the shape .* of teacher_logprobs: got \(11, 1\)"):
        gap(batch, Scores(torch.zeros(11, 1)))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_loss_says_its_gap_and_gate(batch: Batch, name: str) -> None:
    algorithm = make_algorithm(name)
    options = algorithm.scoring_options(ScoringOptions())
    view = None if options.divergence is None else view_teacher(tiny_model(), batch)
    scores = score(tiny_model(), batch.student, batch.mask, options, teacher=view)
    output = algorithm.loss(whole(batch, algorithm), scores)
    if not algorithm.needs_teacher:
        assert output.gap is output.gate is None
        return
    assert output.gap is not None
    assert not output.gap.requires_grad
    shapes = type(algorithm).distillation is GRPO.distillation
    expected = gap(batch, scores, "old" if shapes else "current").detach()
    if name == "opid":
        # That of the turn's own view, where it has one.
        own = batch.more_teachers[0]
        expected = torch.where(own.is_there[:, None], own.scored() - batch.part("old_logprobs"), expected)
    assert torch.equal(output.gap[batch.mask], expected[batch.mask])
    if isinstance(algorithm, (SDAR, UCOB)):
        assert output.gate is not None
        torch.testing.assert_close(output.gate, torch.sigmoid(algorithm.beta * output.gap))
    else:
        assert output.gate is None
