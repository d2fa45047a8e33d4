"""A step that leaves out what changes nothing: rows without a gradient, a pass over the rollout's own log-probs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from helpers.tiny_models import PAD, random_rows, tiny_model

from sdar_agents.algorithms import GRPO, make_algorithm
from sdar_agents.learner import Learner, LearnerSettings, Phases
from sdar_agents.learner.weights import fingerprint
from sdar_agents.scoring.batch import make_batch
from sdar_agents.scoring.logprobs import score
from sdar_agents.types import Row
from sdar_envs.errors import InvalidOption


def rows_of_two_groups() -> list[Row]:
    """Rows of which those of the second group have equal returns; rows 6 to 9 have no teacher."""
    rows = [
        replace(row, episode_return=5.0, turn_reward=0.0) if row.group_id == "g1" else row for row in random_rows(12)
    ]
    return [replace(row, teacher_prompt_ids=None) if 6 <= i <= 9 else row for i, row in enumerate(rows)]


ROWS = rows_of_two_groups()


def learner(method: str, model: Any, *, algorithm: dict[str, Any] | None = None, **settings: Any) -> Learner:
    return Learner(
        model,
        make_algorithm(method, suite="alfworld", **({"kl_coef": 0.0, "invalid_penalty": 0.0} | (algorithm or {}))),
        LearnerSettings(**({"lr": 1e-2, "max_tokens": 128, "mini_batches": 2} | settings)),
        pad_id=PAD,
        steps=10,
    )


def distance(left: torch.nn.Module, right: torch.nn.Module) -> float:
    pairs = zip(left.parameters(), right.parameters(), strict=True)
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


def in_plain_descent(one: Learner) -> Learner:
    # AdamW's first step is the gradient's sign, where rounding decides about zeros.
    one.optimizer = torch.optim.SGD(one.model.parameters(), lr=1.0)  # type: ignore[assignment]
    return one


@pytest.mark.parametrize("mini_batches", [1, 2])
@pytest.mark.parametrize("method", ["grpo", "rlsd", "sdar", "gigpo", "grsd", "opid"])
def test_weights_and_metrics_are_those_of_all_rows(
    method: str, mini_batches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, whole = tiny_model(), tiny_model()
    found = in_plain_descent(learner(method, model, mini_batches=mini_batches)).learn(ROWS, 1).metrics
    monkeypatch.setattr(GRPO, "rows_with_gradient", lambda self, batch, step: batch.mask.any(dim=1))
    wanted = in_plain_descent(learner(method, whole, mini_batches=mini_batches)).learn(ROWS, 1).metrics
    assert distance(model, tiny_model()) > 1e-4
    assert distance(model, whole) < 1e-6
    assert found.pop("optimizer/idle_rows") > 0 or method == "opid"
    assert wanted.pop("optimizer/idle_rows") == 0.0
    assert found == pytest.approx(wanted, abs=2e-6)


@pytest.mark.parametrize("method", ["grpo", "rlsd"])
def test_without_their_scores_the_weights_are_the_same_bits(method: str) -> None:
    prints, numbers = [], []
    for idle_rows in ("score", "skip"):
        model = tiny_model()
        numbers.append(learner(method, model, mini_batches=1, idle_rows=idle_rows).learn(ROWS, 1).metrics)
        prints.append(fingerprint(model))
    assert prints[0] == prints[1]
    scored, skipped = numbers
    # What is a sum over all rows is whole in both.
    for name in ("loss/policy", "loss/total", "optimizer/idle_rows", "optimizer/gradient_norm", "group/zero_task_std"):
        assert skipped[name] == pytest.approx(scored[name], abs=1e-9)
    assert skipped["policy/entropy"] != scored["policy/entropy"]


def test_rows_without_a_gradient_have_no_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bool, int]] = []

    def listen(model: Any, sequences: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append((torch.is_grad_enabled(), len(sequences.prompt_lengths)))
        return score(model, sequences, *args, **kwargs)

    monkeypatch.setattr("sdar_agents.learner.passes.score", listen)
    numbers = learner("grpo", tiny_model(), idle_rows="skip").learn(ROWS, 1).metrics
    trained = sum(count for has_gradient, count in seen if has_gradient)
    with_tokens = sum(bool(row.response_ids) for row in ROWS)
    assert 0 < trained < with_tokens
    assert trained == round(with_tokens * (1 - numbers["optimizer/idle_rows"]))


@pytest.mark.parametrize("idle_rows", ["score", "skip"])
def test_where_no_row_has_a_gradient_the_optimiser_goes_on(idle_rows: str) -> None:
    alike = [replace(row, episode_return=1.0) for row in ROWS]
    model = tiny_model()
    one = learner("grpo", model, idle_rows=idle_rows)
    one.learn(ROWS, 1)
    before = fingerprint(model)
    numbers = one.learn(alike, 2).metrics
    assert fingerprint(model) != before  # momentum, and weights that decay
    assert numbers["optimizer/updates"] == 2
    assert numbers["optimizer/idle_rows"] == 1.0
    assert numbers["optimizer/gradient_norm"] == numbers["loss/total"] == 0.0


def test_an_idle_step_moves_weights_as_one_with_gradients_of_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    alike = [replace(row, episode_return=1.0) for row in ROWS]
    prints = []
    for is_all in (False, True):
        with monkeypatch.context() as patch:
            model = tiny_model()
            one = learner("grpo", model)
            one.learn(ROWS, 1)
            if is_all:
                patch.setattr(GRPO, "rows_with_gradient", lambda self, batch, step: batch.mask.any(dim=1))
            one.learn(alike, 2)
            prints.append(fingerprint(model))
    assert prints[0] == prints[1]


def test_without_its_coefficient_a_method_is_grpo_bit_for_bit() -> None:
    prints = []
    for method in ("grpo", "sdar", "skill_sd"):
        model = tiny_model()
        one = learner(method, model, algorithm={} if method == "grpo" else {"distill_coef": 0.0})
        for step in (1, 2):
            one.learn(ROWS, step)
        prints.append(fingerprint(model))
    assert len(set(prints)) == 1


@dataclass(frozen=True, kw_only=True)
class _Own(GRPO):
    def loss(self, *args: Any, **kwargs: Any) -> Any:
        return super().loss(*args, **kwargs)


@pytest.mark.parametrize(
    ("algorithm", "is_all"),
    [
        (GRPO(kl_coef=0.0), False),
        (GRPO(kl_coef=0.01), True),
        (GRPO(kl_coef=0.0, entropy_coef=0.01), True),
        (_Own(kl_coef=0.0), True),
        (make_algorithm("sdar", suite="alfworld", kl_coef=0.0), False),
        (make_algorithm("sdar", suite="alfworld", kl_coef=0.0, distill_last_step=1), False),
        (make_algorithm("opid", suite="alfworld", kl_coef=0.0), True),
    ],
)
def test_rows_that_another_term_needs_are_kept(algorithm: Any, is_all: bool) -> None:
    batch = make_batch(ROWS, pad_id=PAD)
    batch = batch.replace(advantages=torch.tensor([1.0] * 3 + [0.0] * 9))
    has_tokens = batch.mask.any(dim=1)
    found = algorithm.rows_with_gradient(batch, 2)
    if is_all:
        assert torch.equal(found, has_tokens)
        return
    needed = batch.has_teacher if algorithm.distills(2) else torch.zeros(12, dtype=torch.bool)
    assert torch.equal(found, has_tokens & (needed | (torch.arange(12) < 3)))


# -- log-probs of the rollout's policy ----------------------------------------------------------


def sampled_rows(model: torch.nn.Module) -> list[Row]:
    """The rows with the log-probs of a float32 engine."""
    batch = make_batch(ROWS, pad_id=PAD)
    with torch.no_grad():
        logprobs = score(model, batch.student, batch.mask).logprobs
    return [
        replace(row, sampler_logprobs=tuple(logprobs[i, : len(row.response_ids)].tolist()))
        for i, row in enumerate(ROWS)
    ]


@pytest.mark.parametrize("method", ["grpo", "sdar", "grsd", "skill_sd"])
@pytest.mark.parametrize("mini_batches", [1, 2])
def test_the_samplers_logprobs_save_a_pass(method: str, mini_batches: int) -> None:
    rows = sampled_rows(tiny_model())
    models, numbers, phases = [], [], []
    for old in ("trainer", "sampler"):
        models.append(tiny_model())
        one = in_plain_descent(learner(method, models[-1], old=old, mini_batches=mini_batches))
        phases.append(Phases(one.device))
        numbers.append(one.learn(rows, 1, phases=phases[-1]).metrics)
    assert distance(models[0], models[1]) < 1e-6
    assert ("old" in phases[0].seconds) == (mini_batches == 2 or method == "grsd")
    assert "old" not in phases[1].seconds
    # The entropy is of the policy as it is updated, where no pass before has computed it.
    for each in numbers:
        assert each.pop("policy/entropy") == pytest.approx(numbers[0].get("policy/entropy", 4.0), abs=1.0)
    assert numbers[1].keys() == numbers[0].keys()
    assert numbers[1] == pytest.approx(numbers[0], abs=3e-6)


def test_logprobs_of_the_sampler_are_compared_with_the_first_scores() -> None:
    rows = sampled_rows(tiny_model())
    wrong = [replace(row, sampler_logprobs=tuple(x - 0.5 for x in row.sampler_logprobs or ())) for row in rows]
    assert learner("grpo", tiny_model(), old="sampler").learn(rows, 1).metrics["sampler/difference_max"] < 1e-5
    found = learner("grpo", tiny_model(), old="sampler").learn(wrong, 1).metrics
    assert found["sampler/difference_max"] == pytest.approx(0.5, abs=1e-5)


def test_rows_that_were_not_sampled_are_scored() -> None:
    rows = [replace(row, is_trained=i < 6) for i, row in enumerate(sampled_rows(tiny_model()))]
    rows = [row if row.is_trained else replace(row, sampler_logprobs=None) for row in rows]
    models = []
    for old in ("trainer", "sampler"):
        models.append(tiny_model())
        in_plain_descent(learner("skill_sd", models[-1], old=old)).learn(rows, 1)
    assert distance(models[0], models[1]) < 1e-6


def test_without_logprobs_of_the_engine_there_is_nothing_to_take() -> None:
    with pytest.raises(InvalidOption, match=r"old is sampler.*old: trainer"):
        learner("grpo", tiny_model(), old="sampler").learn(ROWS, 1)


def test_without_a_penalty_there_is_no_reference() -> None:
    one = learner("grpo", tiny_model())
    phases = Phases(one.device)
    one.learn(ROWS, 1, phases=phases)
    assert one.initial is None
    assert set(phases.seconds) == {"old", "update"}
