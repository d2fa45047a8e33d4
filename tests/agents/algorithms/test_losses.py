"""Losses by hand, and the identities that hold exactly over an enumerated vocabulary in float64."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sdar_agents.algorithms.losses import (
    aggregate,
    distillation_loss,
    importance_weight,
    kl_estimate,
    policy_loss,
    reverse_kl_loss,
    sdar_gate,
    skill_sd_loss,
)
from sdar_envs.errors import InvalidOption

SIZE = 16


def draw(seed: int, size: int = SIZE) -> Tensor:
    return torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def teacher_of(logits: Tensor, spread: float, seed: int = 1) -> Tensor:
    """Log-probs `(1, SIZE)` of a teacher that differs from the student by gaps of this standard deviation."""
    return (logits.detach().log_softmax(-1) + spread * draw(seed)).log_softmax(-1)[None]


def expected_gradient(logits: Tensor, loss: Callable[[Tensor], Tensor], sampler: Tensor | None = None) -> Tensor:
    """The gradient with respect to the logits of a loss per token, expected over tokens of the sampler (the policy)."""
    logprobs = logits.log_softmax(-1)[None]
    probabilities = (logprobs if sampler is None else sampler).detach().exp()
    return torch.autograd.grad((probabilities * loss(logprobs)).sum(), logits)[0]


def kl_gradient(logits: Tensor, other: Tensor, *, forward: bool = False) -> Tensor:
    logprobs = logits.log_softmax(-1)
    kl = (other.exp() * (other - logprobs)).sum() if forward else (logprobs.exp() * (logprobs - other)).sum()
    return torch.autograd.grad(kl, logits)[0]


def cosine(left: Tensor, right: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(left, right, dim=0))


# -- the policy gradient --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("advantage", "ratio", "loss", "slope"),
    [
        # slope: of the loss in the ratio; 0 where a clip holds.
        (2.0, 1.0, -2.0, -2.0),
        (2.0, 1.1, -2.2, -2.0),
        (2.0, 1.5, -2.4, 0.0),
        (2.0, 0.5, -1.0, -2.0),
        (-2.0, 1.0, 2.0, 2.0),
        (-2.0, 0.5, 1.6, 0.0),
        (-2.0, 1.5, 3.0, 2.0),
        (-2.0, 5.0, 6.0, 0.0),
        (0.0, 5.0, 0.0, 0.0),
    ],
)
def test_clips_by_hand(advantage: float, ratio: float, loss: float, slope: float) -> None:
    logprobs = torch.tensor([[math.log(ratio)]], dtype=torch.float64, requires_grad=True)
    out = policy_loss(logprobs, torch.zeros(1, 1, dtype=torch.float64), torch.tensor([advantage], dtype=torch.float64))
    assert out.losses.item() == pytest.approx(loss)
    (gradient,) = torch.autograd.grad(out.losses.sum(), logprobs)
    assert gradient.item() == pytest.approx(slope * ratio)
    assert out.ratio.item() == pytest.approx(ratio)
    assert out.is_dual_clipped.item() == (advantage < 0 and ratio > 3)
    assert (out.is_clipped | out.is_dual_clipped).item() == (slope == 0 and advantage != 0)


def test_clip_bounds_are_separate_and_dual_clip_can_be_off() -> None:
    ratio = torch.tensor([[1.5, 0.5]]).log()
    high = policy_loss(ratio, torch.zeros(1, 2), torch.tensor([1.0]), clip_low=0.2, clip_high=0.4)
    assert high.losses.tolist()[0] == pytest.approx([-1.4, -0.5])
    low = policy_loss(ratio, torch.zeros(1, 2), torch.tensor([-1.0]), clip_low=0.3, clip_high=0.4)
    assert low.losses.tolist()[0] == pytest.approx([1.5, 0.7])
    far = policy_loss(torch.tensor([[9.0]]).log(), torch.zeros(1, 1), torch.tensor([-1.0]), dual_clip=None)
    assert far.losses.item() == pytest.approx(9.0)


def test_advantages_per_token_are_taken_as_they_are() -> None:
    out = policy_loss(torch.zeros(1, 3), torch.zeros(1, 3), torch.tensor([[1.0, -2.0, 0.0]]))
    assert out.losses.tolist() == [[-1.0, 2.0, 0.0]]


def test_an_extreme_ratio_is_finite() -> None:
    logprobs = torch.tensor([[0.0, -500.0]], requires_grad=True)
    old = torch.tensor([[-500.0, 0.0]])
    for advantage in (1.0, 0.0, -1.0):
        out = policy_loss(logprobs, old, torch.tensor([advantage]))
        (gradient,) = torch.autograd.grad(out.losses.sum(), logprobs)
        assert torch.isfinite(out.losses).all()
        assert torch.isfinite(gradient).all()


def test_aggregation_is_a_weighted_sum() -> None:
    losses = torch.tensor([[1.0, 2.0], [4.0, 8.0]])
    assert aggregate(losses, torch.tensor([[0.5, 0.25], [0.125, 0.0]])).item() == 1.5


def test_importance_weight_by_hand() -> None:
    old = torch.tensor([[-1.0, -1.0, -1.0, -1.0]])
    sampler = torch.tensor([[-1.0, -1.5, -3.0, -0.5]])
    # exp(0) = 1 exactly, exp(0.5), exp(2) = 7.39 cut at 2, exp(-0.5).
    weight = importance_weight(old, sampler, 2.0)
    assert weight[0, 0].item() == 1.0
    assert weight[0].tolist() == pytest.approx([1.0, math.exp(0.5), 2.0, math.exp(-0.5)])
    assert (importance_weight(torch.zeros(1, 1), torch.full((1, 1), -1e4), 2.0) == 2.0).all()
    assert not importance_weight(old.requires_grad_(), sampler, 2.0).requires_grad


# -- KL estimates ---------------------------------------------------------------------------------


def test_kl_estimates_by_hand() -> None:
    # S = log 0.5, R = log 0.25: x = -log 2.
    logprobs, ref = torch.tensor([[0.5]]).log(), torch.tensor([[0.25]]).log()
    log2 = math.log(2)
    expected = {"k1": log2, "k2": log2**2 / 2, "k3": 0.5 + log2 - 1, "abs": log2}
    for kind, value in expected.items():
        assert kl_estimate(logprobs, ref, kind).item() == pytest.approx(value, rel=1e-6)  # type: ignore[arg-type]


def test_k1_and_k3_estimate_the_kl_and_k2_and_k3_are_never_negative() -> None:
    logits = draw(0)
    p, r = logits.log_softmax(-1)[None], teacher_of(logits, 0.7)
    exact = (p.exp() * (p - r)).sum()
    for kind in ("k1", "k3"):
        torch.testing.assert_close((p.exp() * kl_estimate(p, r, kind)).sum(), exact, atol=1e-12, rtol=0)
    for kind in ("k2", "k3"):
        assert (kl_estimate(p, r, kind) >= 0).all()
    samples = torch.multinomial(p[0].exp(), 20_000, replacement=True, generator=torch.Generator().manual_seed(0))
    for kind in ("k1", "k3"):
        values = kl_estimate(p, r, kind)[0, samples]
        assert abs(float(values.mean() - exact)) < 4 * float(values.std()) / 20_000**0.5


def test_expected_gradients_of_the_kl_estimates() -> None:
    logits = draw(0).requires_grad_()
    ref = teacher_of(logits, 0.7)
    gradient = {
        kind: expected_gradient(logits, lambda s, k=kind: kl_estimate(s, ref, k)) for kind in ("k1", "k2", "k3")
    }
    assert gradient["k1"].abs().max() < 1e-15
    torch.testing.assert_close(gradient["k2"], kl_gradient(logits, ref), atol=1e-14, rtol=0)
    torch.testing.assert_close(gradient["k3"], (logits.softmax(-1) - ref[0].exp()).detach(), atol=1e-14, rtol=0)
    torch.testing.assert_close(gradient["k3"], kl_gradient(logits, ref, forward=True), atol=1e-14, rtol=0)


def test_k3_is_bounded_and_finite() -> None:
    logprobs = torch.tensor([[-200.0, 0.0, -1.0]], requires_grad=True)
    values = kl_estimate(logprobs, torch.tensor([[0.0, -200.0, -1.0]]))
    assert values.tolist() == [[10.0, 10.0, 0.0]]
    (gradient,) = torch.autograd.grad(values.sum(), logprobs)
    assert gradient.tolist() == [[0.0, 0.0, 0.0]]
    with pytest.raises(InvalidOption, match="Did you mean 'k3'"):
        kl_estimate(logprobs, logprobs, "k33")  # type: ignore[arg-type]


# -- SDAR -----------------------------------------------------------------------------------------


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_gates_by_hand() -> None:
    gap = torch.tensor([[0.2, -0.2, 0.0, -0.5]], dtype=torch.float64)
    h = torch.tensor([[0.0, 0.5, 1.0, 2.0]], dtype=torch.float64)
    assert sdar_gate(gap, 5.0).tolist()[0] == pytest.approx([sigmoid(1), sigmoid(-1), 0.5, sigmoid(-2.5)])
    entropy = sdar_gate(gap, 5.0, "entropy", entropies=h)
    assert entropy.tolist()[0] == pytest.approx([0.5, sigmoid(2.5), sigmoid(5), sigmoid(10)])
    assert (entropy >= 0.5).all()
    # 1 - (1 - h)(1 - D): 0.2, 1 - 0.5 * 1.2 = 0.4, 1, and 1 + 1 * 1.5 = 2.5.
    soft = sdar_gate(gap, 5.0, "soft_or", entropies=h)
    assert soft.tolist()[0] == pytest.approx([sigmoid(1), sigmoid(2), sigmoid(5), sigmoid(12.5)])
    clamped = sdar_gate(gap, 5.0, "entropy_clamped", entropies=h, log_vocabulary=2.0)
    assert clamped.tolist()[0] == pytest.approx([0.5, sigmoid(1.25), sigmoid(2.5), sigmoid(5)])
    # h / log V: 0, 0.25, 0.5, 1, hence 0.2, 1 - 0.75 * 1.2 = 0.1, 0.5, 1.
    soft = sdar_gate(gap, 5.0, "soft_or_clamped", entropies=h, log_vocabulary=2.0)
    assert soft.tolist()[0] == pytest.approx([sigmoid(1), sigmoid(0.5), sigmoid(2.5), sigmoid(5)])
    assert sdar_gate(gap, 5.0, center=True).tolist()[0] == pytest.approx(
        [sigmoid(1) - 0.5, sigmoid(-1) - 0.5, 0, sigmoid(-2.5) - 0.5]
    )


def test_high_entropy_turns_the_soft_or_gate_round_and_the_clamp_does_not() -> None:
    gaps = torch.tensor([[-1.0, 0.0, 1.0]], dtype=torch.float64)
    high = torch.full_like(gaps, 2.0)
    plain = sdar_gate(gaps, 1.0, "soft_or", entropies=high)[0].tolist()
    assert plain == sorted(plain, reverse=True)
    assert len(set(plain)) == 3
    clamped = sdar_gate(gaps, 1.0, "soft_or_clamped", entropies=high, log_vocabulary=4.0)[0].tolist()
    assert clamped == sorted(clamped)
    assert len(set(clamped)) == 3


def test_gates_say_what_they_miss() -> None:
    gap = torch.zeros(1, 1)
    with pytest.raises(InvalidOption, match="needs entropies"):
        sdar_gate(gap, 5.0, "entropy")
    with pytest.raises(InvalidOption, match="needs log_vocabulary"):
        sdar_gate(gap, 5.0, "entropy_clamped", entropies=gap)
    with pytest.raises(InvalidOption, match="Did you mean 'soft_or'"):
        sdar_gate(gap, 5.0, "softor")  # type: ignore[arg-type]


def test_the_gradient_is_the_gate_times_that_of_the_student() -> None:
    logprobs = (-draw(0).abs())[None].requires_grad_()
    teacher = -draw(1).abs()[None]
    gap = teacher - logprobs
    gate = sdar_gate(gap, 5.0)
    assert not gate.requires_grad
    (gradient,) = torch.autograd.grad(distillation_loss(gap, gate).sum(), logprobs)
    torch.testing.assert_close(gradient, -torch.sigmoid(5 * (teacher - logprobs.detach())), atol=1e-15, rtol=0)
    # Another teacher, the same gate: the same gradient. The teacher acts through the gate alone.
    (other,) = torch.autograd.grad(distillation_loss(teacher + 0.3 - logprobs, gate).sum(), logprobs)
    assert torch.equal(other, gradient)


def test_without_detaching_the_gate_adds_its_own_slope() -> None:
    logprobs = (-draw(0).abs())[None].requires_grad_()
    teacher = -draw(1).abs()[None]
    gap = teacher - logprobs
    loss = distillation_loss(gap, sdar_gate(gap, 5.0, detach=False))
    (gradient,) = torch.autograd.grad(loss.sum(), logprobs)
    d = gap.detach()
    g = torch.sigmoid(5 * d)
    torch.testing.assert_close(gradient, -(g + 5 * d * g * (1 - g)), atol=1e-14, rtol=0)


def test_beta_zero_has_no_teacher_and_no_expected_gradient() -> None:
    logits = draw(0).requires_grad_()
    for spread in (0.1, 1.0, 5.0):
        teacher = teacher_of(logits, spread)
        gradient = expected_gradient(logits, lambda s, t=teacher: distillation_loss(t - s, sdar_gate(t - s, 0.0)))
        assert gradient.abs().max() < 1e-16
    # A rollout that is older than the policy: half the gradient of KL(old || policy), a pull back to the rollout.
    old = teacher_of(logits, 0.5, seed=7)
    stale = expected_gradient(logits, lambda s: distillation_loss(-s, sdar_gate(-s, 0.0)), sampler=old)
    torch.testing.assert_close(stale, kl_gradient(logits, old, forward=True) / 2, atol=1e-15, rtol=0)


@pytest.mark.parametrize(("spread", "least"), [(0.05, 0.999), (0.2, 0.95), (0.5, 0.9)])
def test_on_policy_sdar_points_where_the_reverse_kl_does(spread: float, least: float) -> None:
    logits = draw(0).requires_grad_()
    teacher = teacher_of(logits, spread)
    exact = kl_gradient(logits, teacher)
    for center in (False, True):
        ours = expected_gradient(
            logits, lambda s, c=center: distillation_loss(teacher - s, sdar_gate(teacher - s, 5.0, center=c))
        )
        assert cosine(ours, exact) > least
    if spread == 0.05:
        assert float(ours.norm() / exact.norm()) == pytest.approx(5 / 4, rel=0.02)


def test_centring_changes_no_expectation_and_takes_variance_away() -> None:
    logits = draw(0).requires_grad_()
    teacher = teacher_of(logits, 0.1)
    p = logits.softmax(-1).detach()
    moments = []
    for center in (False, True):
        logprobs = logits.log_softmax(-1)[None]
        losses = distillation_loss(teacher - logprobs, sdar_gate(teacher - logprobs, 5.0, center=center))
        each = torch.stack([torch.autograd.grad(loss, logits, retain_graph=True)[0] for loss in losses[0]])
        mean = (p[:, None] * each).sum(0)
        moments.append((mean, (p * (each - mean).square().sum(1)).sum()))
    torch.testing.assert_close(moments[0][0], moments[1][0], atol=1e-15, rtol=0)
    assert moments[0][1] > 10 * moments[1][1]


# -- the other distillation losses ----------------------------------------------------------------


def test_the_sampled_reverse_kl_has_the_gradient_of_the_reverse_kl() -> None:
    logits = draw(0).requires_grad_()
    teacher = teacher_of(logits, 1.0)
    gradient = expected_gradient(logits, lambda s: reverse_kl_loss(s, teacher - s))
    torch.testing.assert_close(gradient, kl_gradient(logits, teacher), atol=1e-14, rtol=0)
    # Tokens that the teacher likes less are pushed down, the others up.
    logprobs = logits.detach().log_softmax(-1)[None].requires_grad_()
    (each,) = torch.autograd.grad(reverse_kl_loss(logprobs, teacher - logprobs).sum(), logprobs)
    torch.testing.assert_close(each, logprobs.detach() - teacher, atol=1e-15, rtol=0)


@pytest.mark.parametrize("age", [0.0, 0.5])
def test_skill_sd_has_the_gradient_of_the_reverse_kl_on_and_off_policy(age: float) -> None:
    logits = draw(0).requires_grad_()
    teacher, old = teacher_of(logits, 1.0), teacher_of(logits, age, seed=7)
    exact = kl_gradient(logits, teacher)
    gradient = expected_gradient(logits, lambda s: skill_sd_loss(s, old, teacher - s), sampler=old)
    torch.testing.assert_close(gradient, exact, atol=1e-8, rtol=0)

    def detached(s: Tensor) -> Tensor:
        k3 = torch.exp(teacher - s) - 1 + s - teacher
        return torch.exp(s - old).detach() * k3

    assert (expected_gradient(logits, detached, sampler=old) - exact).abs().max() > 1e-2


def test_skill_sd_by_hand_and_in_the_extreme() -> None:
    # S = log 0.5, O = log 0.25, T = log 0.25: rho 2, e = log 2, k3 = 1/2 - 1 + log 2.
    s, quarter = torch.tensor([[0.5]]).log(), torch.tensor([[0.25]]).log()
    assert skill_sd_loss(s, quarter, quarter - s).item() == pytest.approx(2 * (math.log(2) - 0.5), rel=1e-6)
    logprobs = torch.tensor([[-300.0, 0.0]], requires_grad=True)
    other = torch.tensor([[0.0, -300.0]])
    losses = skill_sd_loss(logprobs, other, other - logprobs)
    (gradient,) = torch.autograd.grad(losses.sum(), logprobs)
    assert torch.isfinite(losses).all()
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize(
    "loss",
    [
        lambda s, o, t: reverse_kl_loss(s, t.detach() - s),
        lambda s, o, t: skill_sd_loss(s, o, t.detach() - s),
        lambda s, o, t: distillation_loss(t.detach() - s, sdar_gate(t.detach() - s, 5.0)),
        lambda s, o, t: kl_estimate(s, t),
        lambda s, o, t: policy_loss(s, o, torch.ones(1)).losses,
    ],
)
def test_only_the_policy_gets_a_gradient(loss: Any) -> None:
    s, o, t = (torch.tensor([[-1.0 - i]], requires_grad=True) for i in range(3))
    loss(s, o, t).sum().backward()
    assert s.grad is not None
    assert o.grad is None
    assert t.grad is None


# -- ranks and shapes -----------------------------------------------------------------------------

B, L = torch.zeros(3), torch.zeros(3, 3)
"""As many rows as columns: shapes that would broadcast without a word."""


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: policy_loss(L, L, L[:, None, :1]), r"advantages .*\(B,\) or \(B, L\) .*\(3, 3\): got \(3, 1, 1\)"),
        (lambda: policy_loss(L, L, torch.zeros(2)), r"advantages .* got \(2,\)"),
        (lambda: policy_loss(L, L, torch.zeros(())), r"advantages .* got \(\)"),
        (lambda: policy_loss(L, B, B), r"old_logprobs .*\(B, L\) = \(3, 3\) of logprobs: got \(3,\)"),
        (lambda: policy_loss(B, B, B), r"logprobs must have the shape \(B, L\): got \(3,\)"),
        (lambda: aggregate(L, B), r"weights .* of losses: got \(3,\)"),
        (lambda: aggregate(B, L), r"losses must have the shape \(B, L\): got \(3,\)"),
        (lambda: kl_estimate(L, B), r"ref_logprobs .* got \(3,\)"),
        (lambda: kl_estimate(L, L[:, :1]), r"ref_logprobs .* got \(3, 1\)"),
        (lambda: importance_weight(L, B, 2.0), r"sampler_logprobs .* of old_logprobs: got \(3,\)"),
        (lambda: sdar_gate(B, 5.0), r"gap must have the shape \(B, L\): got \(3,\)"),
        (lambda: sdar_gate(L, 5.0, "entropy", entropies=B), r"entropies .* of gap: got \(3,\)"),
        (lambda: distillation_loss(L, B), r"gate .* of gap: got \(3,\)"),
        (lambda: distillation_loss(L[None], L[None]), r"gap must have the shape \(B, L\): got \(1, 3, 3\)"),
        (lambda: reverse_kl_loss(L, B), r"gap .* of logprobs: got \(3,\)"),
        (lambda: skill_sd_loss(L, B, L), r"old_logprobs .* got \(3,\)"),
        (lambda: skill_sd_loss(L, L, L[:1]), r"gap .* got \(1, 3\)"),
    ],
)
def test_a_wrong_shape_is_refused_by_name_and_never_broadcast(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        call()


def test_advantages_of_rows_and_of_tokens_both_fit() -> None:
    assert policy_loss(L, L, B).losses.shape == policy_loss(L, L, L).losses.shape == (3, 3)
    assert policy_loss(torch.zeros(0, 0), torch.zeros(0, 0), torch.zeros(0)).losses.shape == (0, 0)
