from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.tiny_models import PAD, random_rows, tiny_model

from sdar_agents.algorithms import GRPO, make_algorithm
from sdar_agents.learner import measures
from sdar_agents.learner.learner import Learner
from sdar_agents.learner.settings import LearnerSettings
from sdar_agents.learner.weights import Weights, fingerprint
from sdar_agents.scoring.batch import make_batch
from sdar_agents.scoring.logprobs import score
from sdar_agents.scoring.options import ScoringOptions
from sdar_envs.errors import InvalidOption

ROWS = random_rows(12)
METHODS = ("grpo", "grpo_opsd", "grpo_opsd_beta0", "opsd", "opsd_script", "rlsd", "sdar", "skill_grpo", "skill_sd")


def learner(
    method: str = "sdar",
    *,
    algorithm: dict[str, Any] | None = None,
    model: Any = None,
    temperature: float = 1.0,
    **settings: Any,
) -> Learner:
    return Learner(
        model or tiny_model(),
        make_algorithm(method, suite="alfworld", **(algorithm or {})),
        LearnerSettings(**({"lr": 1e-3, "max_tokens": 128} | settings)),
        pad_id=PAD,
        temperature=temperature,
        steps=10,
    )


def distance(left: torch.nn.Module, right: torch.nn.Module) -> float:
    pairs = zip(left.parameters(), right.parameters(), strict=True)
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


@pytest.mark.parametrize("method", METHODS)
def test_a_step_moves_the_weights_and_says_what_it_did(method: str) -> None:
    model = tiny_model()
    numbers, gaps, _ = learner(method, model=model, mini_batches=2, gradient_parts_every=1).learn(ROWS, 1)
    assert distance(model, tiny_model()) > 1e-5
    assert numbers["optimizer/updates"] == 2
    assert numbers["optimizer/skipped"] == 0
    assert all(math.isfinite(value) for value in numbers.values())
    has_teacher = make_algorithm(method, suite="alfworld").needs_teacher
    assert ("distill/gap" in numbers) == has_teacher
    assert ("gradient/ratio" in numbers) == ("loss/distill" in numbers and method not in ("opsd", "opsd_script"))
    # The third row is empty, so its episode has one row less, but no episode is without a token.
    assert set(gaps) == ({row.episode_id for row in ROWS} if has_teacher else set())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("aggregation", ["token-mean", "episode-mean-token-mean"])
def test_micro_batches_do_not_change_the_step(method: str, aggregation: str) -> None:
    models = []
    for max_tokens in (1, 64, 10_000):
        models.append(tiny_model())
        one = learner(method, model=models[-1], algorithm={"aggregation": aggregation}, lr=1.0, max_tokens=max_tokens)
        # Plain gradient descent: AdamW's first step is the gradient's sign, where rounding decides about zeros.
        one.optimizer = torch.optim.SGD(models[-1].parameters(), lr=1.0)  # type: ignore[assignment]
        one.learn(ROWS, 1)
    assert distance(models[0], tiny_model()) > 1e-3
    assert distance(models[0], models[2]) < 1e-5
    assert distance(models[1], models[2]) < 1e-5


def test_the_first_update_has_ratio_one() -> None:
    one = learner("grpo", model=tiny_model(attention_dropout=0.5).train(), mini_batches=3, lr=0.0)
    numbers = one.learn(ROWS, 1).metrics
    # Three mini-batches in other micro-batches than those of the scoring pass: equal but for rounding.
    assert numbers["policy/ratio"] == pytest.approx(1.0, abs=1e-5)
    assert numbers["policy/ratio_std"] < 1e-5
    alone = learner("grpo", model=tiny_model(attention_dropout=0.5).train()).learn(ROWS, 1).metrics
    assert alone["policy/ratio"] == 1.0
    assert alone["policy/ratio_std"] == 0.0


@pytest.mark.parametrize("score_", [0.0, 10.0, -0.1])
def test_without_variance_grpo_learns_nothing_and_sdar_does(score_: float) -> None:
    rows = [replace(row, episode_return=score_) for row in ROWS]
    still = tiny_model()
    numbers = learner("grpo", model=still, algorithm={"kl_coef": 0.0}, weight_decay=0.0).learn(rows, 1).metrics
    assert distance(still, tiny_model()) == 0.0
    assert numbers["group/zero_task_std"] == 1.0
    assert numbers["optimizer/gradient_norm"] == 0.0
    moved = tiny_model()
    learner("sdar", model=moved, algorithm={"kl_coef": 0.0}, weight_decay=0.0).learn(rows, 1)
    assert distance(moved, tiny_model()) > 1e-5


@pytest.mark.parametrize("mini_batches", [1, 3])
@pytest.mark.parametrize("settings", [{}, {"gradient_parts_every": 1}, {"teacher": "ema"}, {"epochs": 2}])
def test_sdar_without_its_coefficient_is_grpo_bit_for_bit(mini_batches: int, settings: dict[str, Any]) -> None:
    prints = []
    for method, algorithm in (("grpo", {}), ("sdar", {"distill_coef": 0.0}), ("skill_sd", {"distill_coef": 0.0})):
        model = tiny_model()
        one = learner(method, model=model, algorithm=algorithm, mini_batches=mini_batches, **settings)
        for step in (1, 2):
            one.learn(ROWS, step)
        prints.append(fingerprint(model))
    assert len(set(prints)) == 1


def test_measuring_gradients_changes_nothing() -> None:
    prints = []
    for every in (0, 1):
        model = tiny_model()
        numbers = learner(model=model, gradient_parts_every=every, mini_batches=2).learn(ROWS, 1).metrics
        prints.append(fingerprint(model))
    assert prints[0] == prints[1]
    assert numbers["gradient/ratio"] == pytest.approx(numbers["gradient/distill"] / numbers["gradient/policy"])
    assert -1 <= numbers["gradient/cosine"] <= 1


def test_gradients_are_measured_on_the_first_mini_batch_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    one = learner(gradient_parts_every=2, mini_batches=2, epochs=2, max_tokens=10_000)
    calls: list[int] = []

    def listen(*args: Any) -> None:
        calls.append(step)
        measures.add_gradients(*args)

    monkeypatch.setattr("sdar_agents.learner.passes.add_gradients", listen)
    for step in (1, 2, 3):
        assert ("gradient/policy" in one.learn(ROWS, step).metrics) == (step == 2)
    assert calls == [2]


@pytest.mark.parametrize("aggregation", ["token-mean", "seq-mean-token-sum", "episode-mean-token-mean"])
@pytest.mark.parametrize("max_tokens", [64, 10_000])
def test_the_gradient_of_a_term_is_what_autograd_gives_for_the_whole_batch(max_tokens: int, aggregation: Any) -> None:
    settings = {"aggregation": aggregation}
    numbers = learner(algorithm=settings, gradient_parts_every=1, max_tokens=max_tokens).learn(ROWS, 1).metrics
    model = tiny_model()
    algorithm = make_algorithm("sdar", suite="alfworld", **settings)
    batch = make_batch(ROWS, pad_id=PAD)
    with torch.no_grad():
        old = score(model, batch.student, batch.mask).logprobs
        assert batch.teacher is not None
        teacher = score(model, batch.teacher, batch.mask).logprobs
    advantages, _ = algorithm.advantages(ROWS, batch)
    whole = batch.replace(old_logprobs=old, ref_logprobs=old, teacher_logprobs=teacher, advantages=advantages).weighed(
        aggregation
    )
    output = algorithm.loss(whole, score(model, batch.student, batch.mask))
    for name in ("policy", "distill"):
        grads = torch.autograd.grad(output.parts[name], list(model.parameters()), retain_graph=True)
        norm = math.sqrt(sum(float(grad.double().square().sum()) for grad in grads))
        assert numbers[f"gradient/{name}"] == pytest.approx(norm, rel=1e-4)


class TestTeacher:
    """Whose weights the teacher has, seen from what it says to mini-batches."""

    def spoken(self, kind: str, steps: int = 1, **settings: Any) -> list[torch.Tensor]:
        """Return the teacher's log-probs of all rows in each mini-batch's order of rows."""
        one = learner("sdar", teacher=kind, mini_batches=2, lr=0.05, **settings)
        said = self.listen(one)
        for step in range(1, steps + 1):
            one.learn(ROWS, step)
        return said

    def listen(self, one: Learner, what: str = "teacher_logprobs") -> list[torch.Tensor]:
        said: list[torch.Tensor] = []
        update = one._update

        def update_and_note(mini: Any, *args: Any, **kwargs: Any) -> Any:
            said.append(getattr(mini, what).clone())
            return update(mini, *args, **kwargs)

        one._update = update_and_note  # type: ignore[method-assign]
        return said

    def expected(self, model: torch.nn.Module, step: int, mini: int, whose: str = "teacher") -> torch.Tensor:
        batch = make_batch(ROWS, pad_id=PAD).minibatches(2, random.Random(f"mini-batches 0 {step}"))[mini]
        with torch.no_grad():
            return score(model, getattr(batch, whose), batch.mask).logprobs

    @pytest.mark.parametrize(("autocast", "tolerance"), [(False, 1e-5), (True, 0.1)])
    def test_the_reference_is_the_student_before_the_first_step(self, autocast: bool, tolerance: float) -> None:
        one = learner("sdar", mini_batches=2, lr=0.05, autocast=autocast)
        said = self.listen(one, "ref_logprobs")
        for step in (1, 2):
            one.learn(ROWS, step)
        for number, each in enumerate(said):
            expected = self.expected(tiny_model(), number // 2 + 1, number % 2, "student")
            assert torch.allclose(each, expected, atol=tolerance)

    def test_old_is_the_rollouts_in_every_mini_batch(self) -> None:
        for mini, said in enumerate(self.spoken("old")):
            assert torch.allclose(said, self.expected(tiny_model(), 1, mini), atol=1e-5)

    def test_live_follows_every_update(self) -> None:
        first, second = self.spoken("live")
        assert torch.allclose(first, self.expected(tiny_model(), 1, 0), atol=1e-5)
        assert not torch.allclose(second, self.expected(tiny_model(), 1, 1), atol=1e-2)

    def test_frozen_never_moves(self) -> None:
        for number, said in enumerate(self.spoken("frozen", steps=3)):
            assert torch.allclose(said, self.expected(tiny_model(), number // 2 + 1, number % 2), atol=1e-5)

    def test_ema_is_its_closed_form(self) -> None:
        model = tiny_model()
        one = learner("sdar", teacher="ema", ema_decay=0.75, model=model, lr=0.05)
        seen = [[parameter.detach().clone() for parameter in model.parameters()]]
        for step in (1, 2):
            one.learn(ROWS, step)
            seen.append([parameter.detach().clone() for parameter in model.parameters()])
        assert one.average is not None
        for mean, start, first, second in zip(one.average.state_dict().values(), *seen, strict=True):
            closed = 0.75**2 * start + 0.75 * 0.25 * first + 0.25 * second
            assert torch.allclose(mean, closed, atol=1e-6)

    def test_ema_speaks_with_the_average(self) -> None:
        one = learner("sdar", teacher="ema", ema_decay=0.75, mini_batches=2, lr=0.05)
        one.learn(ROWS, 1)
        assert one.average is not None
        mean = tiny_model()
        mean.load_state_dict({**mean.state_dict(), **one.average.state_dict()})
        said = self.listen(one)
        one.learn(ROWS, 2)
        for number, each in enumerate(said):
            assert torch.allclose(each, self.expected(mean, 2, number), atol=1e-5)
            assert not torch.allclose(each, self.expected(tiny_model(), 2, number), atol=1e-2)

    @pytest.mark.parametrize("divergence", ["rkl_full", "rkl_topk"])
    def test_a_whole_distribution_outlives_the_first_update(self, divergence: str) -> None:
        model = tiny_model()
        one = learner("sdar", model=model, algorithm={"divergence": divergence}, mini_batches=2, lr=0.05)
        views = []
        view = one._view

        def listen(micro: Any) -> Any:
            views.append(view(micro))
            return views[-1]

        one._view = listen  # type: ignore[method-assign]
        for step in (1, 2):
            views.clear()
            head = model.get_output_embeddings().weight.detach().clone()
            one.learn(ROWS, step)
            assert len(views) >= 2
            # The copy is overwritten at the next step, not before.
            assert all(torch.equal(each.weight, head) for each in views)
            assert not torch.equal(model.get_output_embeddings().weight, head)


def test_metrics_are_those_of_the_whole_step() -> None:
    # lr 0: the student is the same in all mini-batches, so one pass over all rows gives the same numbers.
    numbers, gaps, _ = learner(mini_batches=3, max_tokens=50, lr=0.0, weight_decay=0.0).learn(ROWS, 1)
    model = tiny_model()
    batch = make_batch(ROWS, pad_id=PAD)
    assert batch.teacher is not None
    with torch.no_grad():
        gap = score(model, batch.teacher, batch.mask).logprobs - score(model, batch.student, batch.mask).logprobs
    values = gap[batch.mask].double()
    assert numbers["distill/gap"] == pytest.approx(float(values.mean()), abs=1e-6)
    assert numbers["distill/gap_std"] == pytest.approx(float(values.std(correction=0)), abs=1e-6)
    assert numbers["distill/gap_positive"] == pytest.approx(float((values > 0).double().mean()), abs=1e-9)
    assert numbers["distill/gate"] == pytest.approx(float(torch.sigmoid(5 * values).mean()), abs=1e-6)
    first_turn = gap[(batch.turn_index == 0)[:, None] & batch.mask].double()
    assert numbers["gap_by_turn/000"] == pytest.approx(float(first_turn.mean()), abs=1e-6)
    assert numbers["gap_by_position/004"] == pytest.approx(float(gap[:, 4:8][batch.mask[:, 4:8]].mean()), abs=1e-6)
    of_last = gap[10:12][batch.mask[10:12]].double()
    assert gaps[ROWS[-1].episode_id] == pytest.approx(float(of_last.mean()), abs=1e-6)
    assert numbers["gap_by_turn/000_std"] == pytest.approx(float(first_turn.std(correction=0)), abs=1e-6)
    assert numbers["gap_positive_by_turn/000"] == pytest.approx(float((first_turn > 0).double().mean()), abs=1e-9)


@pytest.mark.parametrize("max_tokens", [1, 10_000])
def test_rows_whose_teacher_reads_the_same_prompt_are_counted(max_tokens: int) -> None:
    rows = [replace(row, teacher_prompt_ids=row.prompt_ids) if i < 4 else row for i, row in enumerate(ROWS)]
    numbers = learner(max_tokens=max_tokens).learn(rows, 1).metrics
    # Row 2 has no token, so 3 of 11 rows.
    assert numbers["distill/rows_without_gap"] == pytest.approx(3 / 11)


def test_a_step_of_empty_responses_leaves_the_weights_alone() -> None:
    model = tiny_model()
    rows = [replace(row, response_ids=(), answer_start=0) for row in ROWS]
    numbers, gaps, _ = learner(model=model).learn(rows, 1)
    assert distance(model, tiny_model()) == 0.0
    assert numbers["optimizer/updates"] == 0
    assert gaps == {}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_step_that_is_not_finite_is_left_out_and_counted(value: float) -> None:
    model = tiny_model()
    one = learner("grpo", model=model, mini_batches=2)
    broken = model.lm_head.weight.register_hook(lambda grad: grad * value)
    before = fingerprint(model)
    numbers = one.learn(ROWS, 1).metrics
    assert fingerprint(model) == before
    assert numbers["optimizer/skipped"] == 2
    assert numbers["optimizer/updates"] == 0
    assert one.skipped_in_a_row == 2
    broken.remove()
    numbers = one.learn(ROWS, 2).metrics
    assert numbers["optimizer/skipped"] == 0
    assert one.skipped_in_a_row == 0
    assert fingerprint(model) != before


@pytest.mark.parametrize(
    ("settings", "factors"),
    [
        ({}, [1, 1, 1, 1]),
        ({"warmup_steps": 2}, [0.5, 1, 1, 1]),
        ({"schedule": "linear"}, [1, 0.9, 0.8, 0.7]),
        ({"schedule": "linear", "warmup_steps": 2}, [0.5, 1, 1, 0.875]),
        ({"schedule": "cosine"}, [(1 + math.cos(math.pi * k / 10)) / 2 for k in range(4)]),
    ],
)
def test_schedules(settings: dict[str, Any], factors: list[float]) -> None:
    one = learner("grpo", **settings)
    for step, factor in enumerate(factors, 1):
        numbers = one.learn(ROWS, step).metrics
        assert numbers["optimizer/lr"] == pytest.approx(factor * 1e-3)
        assert [group["lr"] for group in one.optimizer.param_groups] == [numbers["optimizer/lr"]]


def test_weights_decay() -> None:
    model = tiny_model()
    rows = [replace(row, episode_return=0.0) for row in ROWS]
    learner("grpo", model=model, algorithm={"kl_coef": 0.0}, lr=0.5, weight_decay=0.2).learn(rows, 1)
    for left, right in zip(model.parameters(), tiny_model().parameters(), strict=True):
        torch.testing.assert_close(left, 0.9 * right)


def test_long_gradients_are_shortened() -> None:
    for limit, moved in ((1e-3, 1e-3), (None, None)):
        model = tiny_model()
        one = learner("grpo", model=model, clip_norm=limit, lr=1.0)
        one.optimizer = torch.optim.SGD(model.parameters(), lr=1.0)  # type: ignore[assignment]
        numbers = one.learn(ROWS, 1).metrics
        pairs = zip(model.parameters(), tiny_model().parameters(), strict=True)
        length = math.sqrt(sum(float((a - b).detach().double().square().sum()) for a, b in pairs))
        assert length == pytest.approx(moved or numbers["optimizer/gradient_norm"], rel=1e-3)
        assert numbers["optimizer/gradient_norm"] > 0.01


@pytest.mark.parametrize("mini_batches", [1, 2])
def test_all_scores_are_at_the_temperature_of_the_sampling(mini_batches: int) -> None:
    batch = make_batch(ROWS, pad_id=PAD)
    with torch.no_grad():
        said = score(tiny_model(), batch.student, batch.mask, ScoringOptions(temperature=0.7)).logprobs
    rows = [
        replace(
            row,
            sampler_logprobs=tuple(said[i, : len(row.response_ids)].tolist()),
            teacher_prompt_ids=row.prompt_ids,
        )
        for i, row in enumerate(ROWS)
    ]
    for method, divergence in (("sdar", "sampled"), ("sdar", "rkl_full")):
        one = learner(method, algorithm={"divergence": divergence}, temperature=0.7, lr=0.0, mini_batches=mini_batches)
        numbers, gaps, _ = one.learn(rows, 1)
        assert numbers["sampler/difference_max"] < 1e-4
        assert abs(numbers["kl/ref"]) < 1e-6
        assert max(map(abs, gaps.values())) < 1e-5


def test_responses_that_ran_into_the_limit_may_be_left_out() -> None:
    rows = [replace(row, is_truncated=i < 6) for i, row in enumerate(ROWS)]
    for leave_out, first in ((True, 6), (False, 0)):
        gaps = learner(mask_truncated=leave_out).learn(rows, 1).gaps
        assert set(gaps) == {row.episode_id for row in rows[first:]}


def test_a_second_epoch_is_compared_with_the_rollout() -> None:
    numbers = learner("grpo", lr=0.05, epochs=2).learn(ROWS, 1).metrics
    assert numbers["policy/ratio_std"] > 0.01


def test_the_gaps_of_episodes_are_those_of_the_rollout() -> None:
    once = learner(lr=0.05).learn(ROWS, 1).gaps
    twice = learner(lr=0.05, epochs=2).learn(ROWS, 1).gaps
    assert twice == pytest.approx(once, abs=1e-5)


def test_a_loss_that_is_not_finite_is_left_out_though_its_gradient_is(monkeypatch: pytest.MonkeyPatch) -> None:
    loss = GRPO.loss

    def broken(*args: Any, **kwargs: Any) -> Any:
        output = loss(*args, **kwargs)
        return output._replace(loss=output.loss + math.nan)

    monkeypatch.setattr(GRPO, "loss", broken)
    model = tiny_model()
    numbers = learner("grpo", model=model).learn(ROWS, 1).metrics
    assert numbers["optimizer/skipped"] == 1
    assert distance(model, tiny_model()) == 0.0


@pytest.mark.parametrize("settings", [{"gradient_checkpointing": True}, {"packing": True}])
def test_checkpointing_and_packing_do_not_change_the_step(settings: dict[str, Any]) -> None:
    plain, other = tiny_model(), tiny_model()
    for model, more in ((plain, {}), (other, settings)):
        one = learner("sdar", model=model, lr=1.0, gradient_parts_every=1, **more)
        one.optimizer = torch.optim.SGD(model.parameters(), lr=1.0)  # type: ignore[assignment]
        one.learn(ROWS, 1)
    assert distance(plain, tiny_model()) > 1e-3
    assert distance(plain, other) < 1e-5


def test_bfloat16_autocast_is_near_float32() -> None:
    exact = learner("sdar", teacher="frozen", mini_batches=2, lr=0.0).learn(ROWS, 1).metrics
    cast = learner("sdar", teacher="frozen", mini_batches=2, lr=0.0, autocast=True).learn(ROWS, 1).metrics
    assert cast["distill/gap"] == pytest.approx(exact["distill/gap"], abs=0.05)
    assert cast["distill/gap"] != exact["distill/gap"]
    assert cast["kl/ref"] < 1e-3


def test_a_learner_goes_on_from_its_state() -> None:
    whole = tiny_model()
    one = learner(model=whole, teacher="ema", mini_batches=2)
    for step in (1, 2, 3, 4):
        one.learn(ROWS, step)
    first = tiny_model()
    begun = learner(model=first, teacher="ema", mini_batches=2)
    for step in (1, 2):
        begun.learn(ROWS, step)
    second = tiny_model()
    resumed = learner(model=second, teacher="ema", mini_batches=2)
    second.load_state_dict(first.state_dict())
    begun.skipped_in_a_row = 2
    resumed.load_state_dict(begun.state_dict())
    assert resumed.skipped_in_a_row == 2
    for step in (3, 4):
        resumed.learn(ROWS, step)
    assert fingerprint(second) == fingerprint(whole)


def test_weights_are_lent_and_given_back() -> None:
    model = tiny_model()
    kept = Weights(model)
    with torch.no_grad():
        model.lm_head.weight.add_(1.0)
    changed = fingerprint(model)
    with kept.in_place_of(model):
        assert fingerprint(model) == fingerprint(tiny_model())
    assert fingerprint(model) == changed
    with pytest.raises(ZeroDivisionError), kept.in_place_of(model):
        1 / 0  # noqa: B018
    assert fingerprint(model) == changed
    with pytest.raises(InvalidOption, match="another model's"):
        kept.load_state_dict({})


@pytest.mark.parametrize(
    ("settings", "message"), [({"beta1": 1}, "beta1 is 1"), ({"beta2": 1.0}, "beta2 is 1"), ({"clip_norm": 0}, "null")]
)
def test_settings_with_which_nothing_is_learnt_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        LearnerSettings(**settings)


def test_a_model_without_anything_to_train_is_refused() -> None:
    model = tiny_model().requires_grad_(False)
    with pytest.raises(InvalidOption, match="nothing to train"):
        learner(model=model)


def test_rows_without_teacher_take_no_part_in_the_distillation() -> None:
    rows = [replace(row, teacher_prompt_ids=None) if i >= 6 else row for i, row in enumerate(ROWS)]
    gaps = learner().learn(rows, 1).gaps
    assert set(gaps) == {row.episode_id for row in rows[:6]}


@pytest.mark.parametrize("teacher", ["old", "live"])
@pytest.mark.parametrize("divergence", ["sampled", "fkl_full"])
def test_a_step_without_any_teacher_is_grpos(teacher: str, divergence: str) -> None:
    rows = [replace(row, teacher_prompt_ids=None) for row in ROWS]
    plain, other = tiny_model(), tiny_model()
    learner("grpo", model=plain).learn(rows, 1)
    numbers, gaps, _ = learner("sdar", model=other, teacher=teacher, algorithm={"divergence": divergence}).learn(
        rows, 1
    )
    assert fingerprint(other) == fingerprint(plain)
    assert gaps == {}
    assert "distill/gap_by_turn/000" not in numbers
