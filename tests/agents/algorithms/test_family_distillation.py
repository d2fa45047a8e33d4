"""SDPO and UCOB: divergences over the likeliest tokens, on rows that are masked or distilled alone."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.tiny_models import PAD, lookup_model
from torch import Tensor

from sdar_agents.algorithms import SDPO, UCOB, Algorithm, GiGPO
from sdar_agents.scoring.batch import Batch, make_batch
from sdar_agents.scoring.head import Scores
from sdar_agents.scoring.logprobs import score, view_teacher
from sdar_agents.scoring.metrics import summarise
from sdar_agents.scoring.options import ScoringOptions
from sdar_agents.types import Row

V = 6
# The model's logits after token i are row i, whatever came before: prompts end in 1 (student) or 2 (teacher).
TABLE = torch.randn(V, V, generator=torch.Generator().manual_seed(3))


def row(last: int = 1, teacher: int | None = 2, token: int = 4, **facts: Any) -> Row:
    prompt = None if teacher is None else (0, teacher)
    return Row(prompt_ids=(last,), response_ids=(token,), teacher_prompt_ids=prompt, **facts)


def scored(algorithm: Algorithm, rows: list[Row]) -> tuple[Any, Batch, Scores]:
    model = lookup_model(TABLE)
    batch = make_batch(rows, pad_id=PAD)
    batch = replace(batch, teacher=batch.student if batch.teacher is None else batch.teacher)
    scores = score(
        model,
        batch.student,
        batch.mask,
        algorithm.scoring_options(ScoringOptions()),
        teacher=view_teacher(model, batch),
    )
    old = scores.logprobs.detach()
    with torch.no_grad():
        assert batch.teacher is not None
        teacher = score(model, batch.teacher, batch.mask).logprobs
    batch = replace(batch, old_logprobs=old, ref_logprobs=old, teacher_logprobs=teacher)
    batch = batch.replace(advantages=torch.zeros(len(rows)))
    return model, batch.weighed(algorithm.aggregation), scores


def gradient(algorithm: Algorithm, rows: list[Row]) -> Tensor:
    """The gradient of the loss in the logits, by the token before."""
    model, batch, scores = scored(algorithm, rows)
    algorithm.loss(batch, scores).loss.backward()
    grad: Tensor = model.lm_head.weight.grad.T / V**0.5
    return grad


def p_and_q() -> tuple[Tensor, Tensor]:
    return TABLE[1].softmax(dim=0), TABLE[2].softmax(dim=0)


class TestUCOB:
    def test_the_gradient_is_the_gate_times_that_of_the_renormalised_forward_kl(self) -> None:
        p, q = p_and_q()
        top = q.topk(3).indices
        expected = torch.zeros(V)
        expected[top] = p[top] / p[top].sum() - q[top] / q[top].sum()
        gate = torch.sigmoid(5 * (q[4].log() - p[4].log()))
        ours = UCOB(top_k=3, kl_coef=0.0)
        torch.testing.assert_close(gradient(ours, [row()])[1], 0.1 * gate * expected, atol=1e-6, rtol=0)
        # With a rest cell and k = V it is the forward KL: p - q.
        full = UCOB(top_k=V, divergence="fkl_topk", kl_coef=0.0)
        torch.testing.assert_close(gradient(full, [row()])[1], 0.1 * gate * (p - q), atol=1e-6, rtol=0)

    def test_equal_prompts_have_no_loss_and_a_gate_of_a_half(self) -> None:
        algorithm = UCOB(kl_coef=0.0)
        _, batch, scores = scored(algorithm, [row(teacher=1)])
        output = algorithm.loss(batch, scores)
        assert output.loss.item() == pytest.approx(0.0, abs=1e-7)
        assert output.gate is not None
        assert output.gate.item() == pytest.approx(0.5)
        assert float(gradient(algorithm, [row(teacher=1)]).abs().max()) < 1e-7

    def test_exchanging_the_branches_turns_the_direction_round(self) -> None:
        # The better return decides whose prompt the teacher reads; one direction moves p, the other q.
        one, other = (gradient(UCOB(kl_coef=0.0), [row(*pair)]) for pair in ((1, 2), (2, 1)))
        assert (one[2] == 0).all()
        assert (other[1] == 0).all()
        assert float(one[1].abs().max()) > 1e-4
        assert float(other[2].abs().max()) > 1e-4

    def test_its_mean_is_over_the_rows_with_a_teacher_and_its_weights_are_the_rows(self) -> None:
        algorithm = UCOB(kl_coef=0.0)
        alone = gradient(algorithm, [row()])
        plain = [row(teacher=None) for _ in range(5)]
        torch.testing.assert_close(gradient(algorithm, [row(), *plain]), alone, atol=1e-7, rtol=1e-5)
        two = gradient(algorithm, [row(), row(teacher_weight=2.0, token_weights=(1.5,))])
        torch.testing.assert_close(two, 2.0 * alone, atol=1e-7, rtol=1e-5)

    def test_sibling_rows_leave_the_policy_gradient_alone(self) -> None:
        rows = [
            row(teacher=None, episode_id="a", episode_return=10.0),
            row(teacher=None, episode_id="b", token=3),
        ]
        sibling = row(episode_id="a/sibling", is_trained=False)
        grads = []
        for algorithm, given in ((GiGPO(kl_coef=0.3), rows), (UCOB(distill_coef=0.0, kl_coef=0.3), [*rows, sibling])):
            model, batch, scores = scored(algorithm, given)
            advantages, _ = algorithm.advantages(given, batch)
            batch = batch.replace(advantages=advantages, ref_logprobs=batch.part("old_logprobs") - 0.5 * batch.mask)
            assert advantages.tolist() == [5.0, -5.0, 0.0][: len(given)]
            output = algorithm.loss(batch, scores)
            output.loss.backward()
            grads.append(model.lm_head.weight.grad)
            numbers = summarise(output.metrics)
            assert numbers["policy/ratio"] == 1.0
        assert float(grads[0].abs().max()) > 0.01
        torch.testing.assert_close(*grads, atol=1e-7, rtol=1e-5)


class TestSDPO:
    @pytest.mark.parametrize("divergence", ["jsd_topk", "rkl_topk", "fkl_topk"])
    def test_the_gradient_is_autograds_over_the_cells(self, divergence: Any) -> None:
        logits = TABLE[1].clone().requires_grad_()
        p, q = logits.softmax(dim=0), TABLE[2].softmax(dim=0)
        top = p.topk(2).indices
        cells_p, cells_q = (torch.cat([each[top], 1 - each[top].sum()[None]]) for each in (p, q))
        middle = (cells_p + cells_q) / 2

        def kl(a: Tensor, b: Tensor) -> Tensor:
            return (a * (a / b).log()).sum()

        value = {
            "jsd_topk": kl(cells_p, middle) / 2 + kl(cells_q, middle) / 2,
            "rkl_topk": kl(cells_p, cells_q),
            "fkl_topk": kl(cells_q, cells_p),
        }[divergence]
        (expected,) = torch.autograd.grad(value, logits)
        ours = SDPO(divergence=divergence, top_k=2, kl_coef=0.0)
        torch.testing.assert_close(gradient(ours, [row()])[1], expected, atol=1e-6, rtol=0)

    def test_the_importance_weight_is_capped_and_has_no_gradient(self) -> None:
        def with_ratio(ratio: float, **settings: Any) -> Tensor:
            algorithm = SDPO(kl_coef=0.0, **settings)
            model, batch, scores = scored(algorithm, [row()])
            shift = float(torch.tensor(ratio).log())
            algorithm.loss(batch.replace(old_logprobs=batch.part("old_logprobs") - shift), scores).loss.backward()
            grad: Tensor = model.lm_head.weight.grad
            return grad

        plain = with_ratio(1.0)
        torch.testing.assert_close(with_ratio(1.5), 1.5 * plain, atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(with_ratio(9.0), 2.0 * plain, atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(with_ratio(9.0, ratio_clip=None), plain, atol=1e-6, rtol=1e-4)

    def test_rows_without_another_success_in_their_group_are_left_out(self) -> None:
        rows = [
            row(group_id="g", episode_id="won", is_success=True),
            row(group_id="g", episode_id="lost"),
            row(group_id="h", episode_id="one"),
            row(group_id="h", episode_id="two"),
        ]
        prepared = SDPO().prepare_rows(rows)
        assert [each.teacher_prompt_ids is not None for each in prepared] == [False, True, False, False]
        assert SDPO(success_mask=False).prepare_rows(rows) == rows
        # The mean is over the rows that are left.
        alone = gradient(SDPO(kl_coef=0.0), [rows[1]])
        torch.testing.assert_close(gradient(SDPO(kl_coef=0.0), list(prepared)), alone, atol=1e-7, rtol=1e-5)

    def test_equal_prompts_have_no_gradient(self) -> None:
        assert float(gradient(SDPO(kl_coef=0.0), [row(teacher=1)]).abs().max()) < 1e-7
