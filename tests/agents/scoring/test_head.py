"""The chunked head: scores, their derivative, divergences, precision."""

from typing import Any

import pytest
import torch
from helpers.tiny_models import (
    PAD,
    VOCABULARY,
    gradients,
    largest_difference,
    random_rows,
    tiny_model,
)
from torch import Tensor

from sdar_agents.scoring.batch import make_batch
from sdar_agents.scoring.head import TeacherView, head_scores
from sdar_agents.scoring.logprobs import score
from sdar_agents.scoring.options import TOP_K_DIVERGENCES, ScoringOptions
from sdar_agents.types import Row
from sdar_envs.errors import InvalidOption

DIVERGENCES = ("rkl_full", "fkl_full", "jsd_full", "rkl_topk", "fkl_topk", "jsd_topk", "fkl_renormalised")


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return random_rows(9)


@torch.no_grad()
def test_bfloat16_states_are_scored_in_float32() -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(64, 32, generator=generator).bfloat16()
    weight = torch.randn(500, 32, generator=generator).bfloat16()
    targets = torch.randint(0, 500, (64,), generator=generator)
    logits = torch.nn.functional.linear(states, weight)
    exact = logits.double().log_softmax(-1).gather(1, targets[:, None])[:, 0]
    low = logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]
    ours = head_scores(states, weight, None, targets).logprobs
    assert ours.dtype == torch.float32
    assert (low.double() - exact).abs().max() > 1e-2
    assert (ours.double() - exact).abs().max() < 2e-3


def double(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("top_of", ["student", "teacher"])
@pytest.mark.parametrize("divergence", [None, *DIVERGENCES])
def test_the_backward_pass_is_the_derivative(divergence: Any, top_of: Any) -> None:
    if top_of == "teacher" and divergence not in TOP_K_DIVERGENCES:
        pytest.skip("it has no top")
    teacher = TeacherView(double(5, 4, seed=3), double(7, 4, seed=4), double(7, seed=5))
    targets = torch.tensor([0, 6, 3, 3, 1])

    def scores(states: Tensor, weight: Tensor, bias: Tensor) -> Any:
        out = head_scores(
            states,
            weight,
            bias,
            targets,
            ScoringOptions(
                temperature=0.8, entropies=True, divergence=divergence, top_k=3, top_of=top_of, chunk_elements=14
            ),
            teacher=teacher if divergence else None,
        )
        return tuple(part for part in out if part is not None)

    inputs = tuple(double(*shape, seed=i).requires_grad_() for i, shape in enumerate([(5, 4), (7, 4), (7,)]))
    assert torch.autograd.gradcheck(scores, inputs)


def test_divergences_are_what_they_are_called() -> None:
    states, weight = double(6, 4, seed=0), double(9, 4, seed=1)
    teacher = TeacherView(double(6, 4, seed=2).requires_grad_(), double(9, 4, seed=3).requires_grad_())
    p = torch.distributions.Categorical(logits=states @ weight.T)
    q = torch.distributions.Categorical(logits=teacher.states @ teacher.weight.T)
    mixture = torch.distributions.Categorical(probs=(p.probs + q.probs) / 2)
    kl = torch.distributions.kl_divergence
    expected = {"rkl_full": kl(p, q), "fkl_full": kl(q, p), "jsd_full": (kl(p, mixture) + kl(q, mixture)) / 2}

    def ours(kind: Any, **changes: Any) -> Tensor:
        targets = torch.zeros(6, dtype=torch.long)
        out = head_scores(
            states, weight, None, targets, ScoringOptions(divergence=kind, **changes), teacher=teacher
        ).divergences
        assert out is not None
        return out

    for kind, values in expected.items():
        torch.testing.assert_close(ours(kind), values.detach(), atol=1e-12, rtol=0)
        torch.testing.assert_close(ours(kind, chunk_elements=9), values.detach(), atol=1e-12, rtol=0)
    for name in ("rkl", "fkl", "jsd"):
        for k in (9, 99):
            torch.testing.assert_close(
                ours(f"{name}_topk", top_k=k), expected[f"{name}_full"].detach(), atol=1e-12, rtol=0
            )
        before = torch.zeros(6, dtype=torch.float64)
        for k in range(1, 10):
            # Telling more tokens apart can only show more difference.
            values = ours(f"{name}_topk", top_k=k)
            assert (values >= before - 1e-12).all()
            before = values
    # Renormalised on all tokens it is the full one, and of one token there is nothing to compare.
    torch.testing.assert_close(ours("fkl_renormalised", top_k=9), expected["fkl_full"].detach(), atol=1e-12, rtol=0)
    assert (ours("fkl_renormalised", top_k=1) == 0).all()
    top = q.probs.topk(3).indices
    inside = [torch.distributions.Categorical(probs=each.probs.gather(1, top)) for each in (p, q)]
    by_hand = kl(inside[1], inside[0]).detach()
    torch.testing.assert_close(ours("fkl_renormalised", top_k=3, top_of="teacher"), by_hand, atol=1e-12, rtol=0)
    states.requires_grad_()
    ours("jsd_full").sum().backward()
    assert states.grad is not None
    assert teacher.states.grad is None
    assert teacher.weight.grad is None


def test_chunks_change_neither_scores_nor_gradients(rows: list[Row]) -> None:
    batch = make_batch(rows, pad_id=PAD)
    results = []
    for chunk_elements in (1, 5 * VOCABULARY, 1 << 25):
        model = tiny_model()
        scores = score(model, batch.student, batch.mask, ScoringOptions(entropies=True, chunk_elements=chunk_elements))
        assert scores.entropies is not None
        (scores.logprobs.sum() - scores.entropies.square().sum()).backward()
        results.append((scores, gradients(model)))
    for scores, grads in results[1:]:
        torch.testing.assert_close(scores.logprobs, results[0][0].logprobs, atol=1e-5, rtol=0)
        torch.testing.assert_close(scores.entropies, results[0][0].entropies, atol=1e-5, rtol=0)
        assert largest_difference(grads, results[0][1]) < 1e-3


def test_bfloat16_gradients_do_not_depend_on_the_chunks() -> None:
    states, targets = double(256, 16, seed=0).bfloat16(), torch.arange(256) % 50

    def weight_gradient(chunk_elements: int) -> Tensor:
        weight = double(50, 16, seed=1).bfloat16().requires_grad_()
        head_scores(
            states, weight, None, targets, ScoringOptions(chunk_elements=chunk_elements)
        ).logprobs.sum().backward()
        assert weight.grad is not None
        return weight.grad.double()

    exact = double(50, 16, seed=1).bfloat16().double().requires_grad_()
    head_scores(states.double(), exact, None, targets).logprobs.sum().backward()
    assert exact.grad is not None
    scale = exact.grad.abs().max()
    for chunk_elements in (50 * 256, 50 * 4, 50):
        assert (weight_gradient(chunk_elements) - exact.grad).abs().max() / scale < 0.01


def test_autocast_decides_the_precision_of_the_head(rows: list[Row]) -> None:
    batch = make_batch(rows, pad_id=PAD)
    model = tiny_model()
    full = score(model, batch.student, batch.mask).logprobs
    with torch.autocast("cpu", torch.bfloat16):
        low = score(model, batch.student, batch.mask).logprobs
        mixed = score(model, batch.student, batch.mask, ScoringOptions(head_dtype=torch.float32)).logprobs
    assert low.dtype == torch.float32
    assert 1e-4 < (low - full).abs().max() < 0.3
    assert not torch.equal(low, mixed)
    low.sum().backward()
    assert all(torch.isfinite(grad).all() for grad in gradients(model))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((5,), (7, 4), (5,)), r"states must have the shape \(N, H\): got \(5,\)"),
        (((5, 4), (4,), (5,)), r"weight must have the shape \(V, H\): got \(4,\)"),
        (((5, 4), (7, 4), (5, 1)), r"targets must have the shape \(N,\): got \(5, 1\)"),
        (((5, 4), (7, 4), (1,)), r"got \(5, 4\), \(7, 4\) and \(1,\)"),
        (((5, 4), (7, 3), (5,)), r"got \(5, 4\), \(7, 3\) and \(5,\)"),
    ],
)
def test_a_head_refuses_states_of_another_shape(shapes: tuple[tuple[int, ...], ...], message: str) -> None:
    states, weight, targets = (torch.zeros(shape) for shape in shapes)
    with pytest.raises(InvalidOption, match=message):
        head_scores(states, weight, None, targets.long())
