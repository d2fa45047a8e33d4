import dataclasses
import math
from typing import Any, get_args

import pytest
import torch
from helpers.tiny_models import PAD, gradients, largest_difference, random_rows, scored_batch, tiny_model
from torch import Tensor

from sdar_agents.algorithms import ALGORITHMS, GRPO, Algorithm, LossOutput
from sdar_agents.algorithms import make_algorithm as make_any_algorithm
from sdar_agents.algorithms.losses import Gate
from sdar_agents.scoring.batch import Aggregation, Batch, make_batch
from sdar_agents.scoring.head import Scores
from sdar_agents.scoring.logprobs import score, view_teacher
from sdar_agents.scoring.metrics import merge_metrics, summarise
from sdar_agents.scoring.options import ScoringOptions
from sdar_agents.types import Row
from sdar_envs.errors import InvalidOption

MODES = get_args(Aggregation)
EVERYTHING = {"entropy_coef": 0.01, "kl_coef": 0.1, "response_limit": 16}


def make_algorithm(name: str, **settings: Any) -> Any:
    return make_any_algorithm(name, **({"suite": "alfworld"} | settings))


def whole(batch: Batch, algorithm: Algorithm) -> Batch:
    return batch.weighed(algorithm.aggregation, response_limit=algorithm.response_limit)


def step(model: Any, pieces: list[Batch], algorithm: Algorithm, **kwargs: Any) -> tuple[list[LossOutput], list[Tensor]]:
    """The outputs of all pieces and the gradient of their sum."""
    outputs = []
    for piece in pieces:
        options = algorithm.scoring_options(ScoringOptions(entropies=True))
        teacher = None if options.divergence is None else view_teacher(model, piece)
        scores = score(model, piece.student, piece.mask, options, teacher=teacher)
        outputs.append(algorithm.loss(piece, scores, log_vocabulary=math.log(64), **kwargs))
        outputs[-1].loss.backward()
    return outputs, gradients(model)


@pytest.fixture(scope="module")
def batch() -> Batch:
    return scored_batch(random_rows(11))


@pytest.mark.parametrize("mode", MODES)
def test_the_cut_of_a_batch_does_not_show_in_its_gradient(batch: Batch, mode: Aggregation) -> None:
    algorithm = make_algorithm("sdar", distill_coef=0.5, aggregation=mode, **EVERYTHING)
    model = tiny_model()
    weighed = whole(batch, algorithm)
    (output,), expected = step(model, [weighed], algorithm)
    for size in (1, 2, 3, 8):
        pieces = [weighed.select(range(i, min(i + size, 11))) for i in range(0, 11, size)]
        outputs, grads = step(model, pieces, algorithm)
        assert sum(piece.loss.item() for piece in outputs) == pytest.approx(output.loss.item(), abs=1e-5)
        assert largest_difference(grads, expected) < 1e-5 * max(1.0, *(float(g.abs().max()) for g in expected))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_metrics_of_pieces_are_those_of_the_whole(batch: Batch, name: str) -> None:
    algorithm = make_algorithm(name, **EVERYTHING)
    model = tiny_model()
    weighed = whole(batch, algorithm)
    (output,), expected = step(model, [weighed], algorithm)
    outputs, grads = step(model, weighed.split(70), algorithm)
    assert len(outputs) > 3
    assert largest_difference(grads, expected) < 1e-4
    together, alone = summarise(merge_metrics(o.metrics for o in outputs)), summarise(output.metrics)
    assert together == pytest.approx(alone, rel=1e-4, abs=1e-6)
    assert together["loss/total"] == pytest.approx(output.loss.item(), rel=1e-4)
    assert together["policy/clip_fraction"] > 0.1


def test_gap_and_gate_are_means_over_all_tokens(batch: Batch) -> None:
    algorithm = make_algorithm("sdar")
    assert batch.teacher_logprobs is not None
    with torch.no_grad():
        logprobs = score(tiny_model(), batch.student, batch.mask).logprobs
    gap = (batch.teacher_logprobs - logprobs)[batch.mask].double()
    gate = torch.sigmoid(5 * gap)
    outputs, _ = step(tiny_model(), whole(batch, algorithm).split(40), algorithm)
    summary = summarise(merge_metrics(output.metrics for output in outputs))
    assert summary["distill/gap"] == pytest.approx(gap.mean().item(), rel=1e-4)
    assert summary["distill/gap_std"] == pytest.approx(gap.std(correction=0).item(), rel=1e-4)
    assert summary["distill/gap_positive"] == pytest.approx((gap > 0).double().mean().item())
    assert summary["distill/gate"] == pytest.approx(gate.mean().item(), rel=1e-4)
    assert summary["distill/gate_active"] == summary["distill/gap_positive"]
    assert summary["distill/has_teacher"] == 1.0


def test_the_loss_of_grpo_by_hand(batch: Batch) -> None:
    algorithm = make_algorithm("grpo", kl_coef=0.1, entropy_coef=0.01, sampler_cap=1.5)
    scores = score(tiny_model(), batch.student, batch.mask, ScoringOptions(entropies=True))
    total = 0.0
    for i, j in batch.mask.nonzero().tolist():
        parts = (scores.logprobs, batch.old_logprobs, batch.ref_logprobs, batch.sampler_logprobs, scores.entropies)
        s, o, r, sampler, h = (part[i, j].item() for part in parts)  # type: ignore[index]
        a, ratio = float(batch.advantages[i]), math.exp(s - o)  # type: ignore[index]
        loss = max(-a * ratio, -a * min(max(ratio, 0.8), 1.2))
        loss = min(loss, -3 * a) if a < 0 else loss
        loss *= min(math.exp(o - sampler), 1.5)
        total += loss + 0.1 * min(math.exp(r - s) - (r - s) - 1, 10) - 0.01 * h
    output = algorithm.loss(whole(batch, algorithm), scores)
    assert output.loss.item() == pytest.approx(total / int(batch.mask.sum()), rel=1e-5)


def test_the_parts_of_a_loss_sum_to_it_in_value_and_gradient(batch: Batch) -> None:
    algorithm = make_algorithm("sdar", distill_coef=0.5, **EVERYTHING)
    model = tiny_model()
    output = algorithm.loss(
        whole(batch, algorithm), score(model, batch.student, batch.mask, ScoringOptions(entropies=True))
    )
    assert set(output.parts) == {"policy", "kl", "entropy", "distill"}
    parameters = list(model.parameters())
    parts = [torch.autograd.grad(part, parameters, retain_graph=True) for part in output.parts.values()]
    total = torch.autograd.grad(output.loss, parameters)
    assert largest_difference([torch.stack(grads).sum(0) for grads in zip(*parts, strict=True)], list(total)) < 1e-5
    assert all(max(float(grad.abs().max()) for grad in part) > 1e-4 for part in parts)
    assert sum(part.item() for part in output.parts.values()) == pytest.approx(output.loss.item(), rel=1e-5)


OFF = {
    "grpo_opsd": {"distill_coef": 0.0},
    "grpo_opsd_beta0": {"distill_coef": 0.0},
    "sdar": {"distill_coef": 0.0},
    "skill_sd": {"distill_coef": 0.0},
    "rlsd": {"shaping_coef": 0.0},
    "skill_grpo": {},
}


@pytest.mark.parametrize("name", OFF)
def test_a_method_with_its_coefficient_at_zero_is_grpo_bit_for_bit(batch: Batch, name: str) -> None:
    expected, expected_grads = step(tiny_model(), [whole(batch, make_algorithm("grpo"))], make_algorithm("grpo"))
    algorithm = make_algorithm(name, **OFF[name])
    outputs, grads = step(tiny_model(), [whole(batch, algorithm)], algorithm)
    assert torch.equal(outputs[0].loss, expected[0].loss)
    assert all(torch.equal(a, b) for a, b in zip(grads, expected_grads, strict=True))


def test_rlsd_after_its_warm_down_is_grpo_bit_for_bit(batch: Batch) -> None:
    grpo, rlsd = make_algorithm("grpo"), make_algorithm("rlsd")
    (expected,), _ = step(tiny_model(), [whole(batch, grpo)], grpo)
    losses = [step(tiny_model(), [whole(batch, rlsd)], rlsd, step=k)[0][0].loss for k in (1, 99, 100, 150)]
    assert [torch.equal(loss, expected.loss) for loss in losses] == [False, False, True, True]


def changed_teacher(batch: Batch) -> Batch:
    assert batch.teacher_logprobs is not None
    return batch.replace(teacher_logprobs=batch.teacher_logprobs.flip(0).roll(1, 1) * batch.mask)


# The loss of the others sees what the teacher says in the advantages, or in whole distributions.
READS_THE_TEACHER = [
    name
    for name, method in ALGORITHMS.items()
    if method.needs_teacher and not method.shapes_advantages and name != "sdpo"
]


@pytest.mark.parametrize("name", READS_THE_TEACHER)
def test_the_teacher_matters_to_every_method_but_the_control(batch: Batch, name: str) -> None:
    algorithm = make_algorithm(name)
    weighed = whole(batch, algorithm)
    _, grads = step(tiny_model(), [weighed], algorithm)
    _, other = step(tiny_model(), [changed_teacher(weighed)], algorithm)
    same = all(torch.equal(a, b) for a, b in zip(grads, other, strict=True))
    assert same == (name == "grpo_opsd_beta0")


def test_sdar_adds_minus_lambda_gate_grad(batch: Batch) -> None:
    assert batch.teacher_logprobs is not None
    algorithm = make_algorithm("sdar", pg_coef=0.0, kl_coef=0.0, distill_coef=0.3)
    weighed = whole(batch, algorithm)
    _, grads = step(tiny_model(), [weighed], algorithm)
    model = tiny_model()
    logprobs = score(model, batch.student, batch.mask).logprobs
    gate = torch.sigmoid(5 * (batch.teacher_logprobs - logprobs.detach()))
    (-0.3 * (gate * logprobs)[batch.mask].sum() / batch.mask.sum()).backward()
    assert largest_difference(grads, gradients(model)) < 1e-6


def test_equal_rewards_leave_grpo_silent_and_sdar_not() -> None:
    for value in (0.0, 10.0, -0.1):
        rows = [dataclasses.replace(row, episode_return=value) for row in random_rows(8)]
        batch = scored_batch(rows)
        batch = batch.replace(old_logprobs=score(tiny_model(), batch.student, batch.mask).logprobs.detach())
        for name, silent in (("grpo", True), ("sdar", False)):
            algorithm = make_algorithm(name, kl_coef=0.0)
            advantages, metrics = algorithm.advantages(rows, batch)
            assert (advantages == 0).all()
            assert summarise(metrics)["group/zero_task_std"] == 1.0
            _, grads = step(tiny_model(), [whole(batch.replace(advantages=advantages), algorithm)], algorithm)
            assert all((grad == 0).all() for grad in grads) == silent


def test_a_penalty_can_come_before_or_after_normalisation() -> None:
    # Two episodes of two turns that both fail; one turn breaks the format.
    rows = [
        Row(
            prompt_ids=(1,),
            response_ids=(2,),
            group_id="g",
            episode_id=f"e{i // 2}",
            invalid_penalty=0.1 if i == 0 else 0.0,
        )
        for i in range(4)
    ]
    batch = make_batch(rows, pad_id=PAD)
    before, metrics = GRPO().advantages(rows, batch)
    # Scores -0.1, 0, 0, 0: mean -0.025, unbiased std 0.05.
    assert before.tolist() == pytest.approx([-1.5, 0.5, 0.5, 0.5], rel=1e-4)
    wanted = {"group/zero_task_std": 1.0, "group/penalty_only": 1.0, "group/return_std": 0.0}
    assert summarise(metrics) == wanted
    after, _ = GRPO(penalty_after=True).advantages(rows, batch)
    assert after.tolist() == pytest.approx([-0.1, 0.0, 0.0, 0.0])
    episode, _ = GRPO(penalty_after=True, advantage_stats="episode").advantages(rows, batch)
    assert torch.equal(episode, after)


@pytest.mark.parametrize("gate", get_args(Gate))
@pytest.mark.parametrize("divergence", ["sampled", "rkl_full", "fkl_full", "jsd_full", "rkl_topk"])
def test_every_gate_goes_with_every_divergence(batch: Batch, gate: str, divergence: str) -> None:
    algorithm = make_algorithm("sdar", gate=gate, divergence=divergence, distill_coef=1.0)
    (output,), grads = step(tiny_model(), [whole(batch, algorithm)], algorithm)
    assert torch.isfinite(output.loss)
    assert all(torch.isfinite(grad).all() for grad in grads)
    summary = summarise(output.metrics)
    assert 0 <= summary["distill/gate"] <= 1
    if divergence != "sampled":
        assert summary["loss/distill"] > 0


def test_rows_without_a_teacher_take_no_part(batch: Batch) -> None:
    rows = random_rows(11)
    some = [dataclasses.replace(row, teacher_prompt_ids=None) if i % 2 else row for i, row in enumerate(rows)]
    for name in ("sdar", "grpo_opsd", "skill_sd", "rlsd"):
        algorithm = make_algorithm(name, pg_coef=float(name == "rlsd"), kl_coef=0.0)
        mixed = whole(batch, algorithm).replace(has_teacher=make_batch(some, pad_id=PAD).has_teacher)
        outputs, grads = step(tiny_model(), [mixed], algorithm)
        _, other = step(tiny_model(), [changed_odd_rows(mixed)], algorithm)
        assert all(torch.equal(a, b) for a, b in zip(grads, other, strict=True))
        expected = batch.mask[::2].sum() / batch.mask.sum()
        assert summarise(outputs[0].metrics)["distill/has_teacher"] == pytest.approx(float(expected))


def changed_odd_rows(batch: Batch) -> Batch:
    assert batch.teacher_logprobs is not None
    teacher = batch.teacher_logprobs.clone()
    teacher[1::2] -= 3.0
    return batch.replace(teacher_logprobs=teacher)


def test_a_piece_without_tokens_gives_zero_and_no_nan(batch: Batch) -> None:
    for name in ALGORITHMS:
        algorithm = make_algorithm(name, **EVERYTHING)
        piece = whole(batch, algorithm).select([2])
        assert piece.mask.numel() == 0
        (output,), grads = step(tiny_model(), [piece], algorithm)
        assert output.loss.item() == 0.0
        assert all((grad == 0).all() for grad in grads)
        nothing = batch.select([2])
        (output,), grads = step(tiny_model(), [whole(nothing, algorithm)], algorithm)
        assert output.loss.item() == 0.0


def test_what_a_batch_lacks_is_named(batch: Batch) -> None:
    scores = Scores(torch.zeros(batch.mask.shape))
    algorithm = make_algorithm("sdar", gate="entropy", divergence="rkl_full")
    with pytest.raises(InvalidOption, match=r"needs weights .* call batch.weighed\("):
        algorithm.loss(batch, scores)
    weighed = whole(batch, algorithm)
    for part in ("old_logprobs", "advantages", "ref_logprobs", "teacher_logprobs"):
        with pytest.raises(InvalidOption, match=f"needs {part} in the batch"):
            algorithm.loss(weighed.replace(**{part: None}), scores)
    with pytest.raises(InvalidOption, match="needs entropies in the scores"):
        algorithm.loss(weighed, scores)
    with pytest.raises(InvalidOption, match="needs divergences in the scores"):
        algorithm.loss(weighed, scores._replace(entropies=torch.zeros(batch.mask.shape)))


def test_scores_of_another_shape_than_the_batch_are_refused(batch: Batch) -> None:
    algorithm = make_algorithm("grpo")
    with pytest.raises(InvalidOption, match=r"logprobs must have the shape .* of mask: got \(11, 1\)"):
        algorithm.loss(whole(batch, algorithm), Scores(torch.zeros(11, 1)))
