"""Teachers of other weights and other models, their controls, several views, rows that are distilled alone."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from helpers.tiny_models import PAD, random_rows, tiny_model, tiny_tokenizer
from torch import Tensor

from sdar_agents.algorithms import ADRS, GRPO, SERL, Declarations, TokenAdvantages, make_algorithm
from sdar_agents.learner import Learner, LearnerSettings, open_teacher
from sdar_agents.learner.controls import control_batch, control_rows
from sdar_agents.learner.teachers import ModelTeacher, ScorerTeacher, check_same_tokenizer
from sdar_agents.learner.weights import fingerprint
from sdar_agents.scoring.batch import make_batch
from sdar_agents.scoring.logprobs import score
from sdar_agents.scoring.options import ScoringOptions
from sdar_agents.types import Row
from sdar_envs.errors import InvalidOption, UnknownName

ROWS = random_rows(12)


def learner(method: str | GRPO = "sdar", *, model: Any = None, teacher_: Any = None, **settings: Any) -> Learner:
    algorithm = make_algorithm(method, suite="alfworld") if isinstance(method, str) else method
    chosen = LearnerSettings(**({"lr": 0.05, "gradient_parts_every": 0} | settings))
    return Learner(model or tiny_model(), algorithm, chosen, pad_id=PAD, steps=10, teacher=teacher_)


@dataclass(frozen=True, kw_only=True)
class Listener(GRPO):
    """Notes the whole step that it is shown."""

    needs_teacher: ClassVar[bool] = True
    shapes_advantages: ClassVar[bool] = True
    teacher_views: ClassVar[int] = 2

    def shape_advantages(self, advantages: Tensor, rows: Any, batch: Any, step: int) -> TokenAdvantages:
        HEARD.append(batch)
        return TokenAdvantages(advantages)

    def declarations(self) -> Declarations:
        return Declarations()


HEARD: list[Any] = []


def heard(rows: Any = ROWS, steps: int = 1, **settings: Any) -> list[Any]:
    """The batches that a method sees, one for each step."""
    HEARD.clear()
    one = learner(Listener(), **settings)
    for step in range(1, steps + 1):
        one.learn(rows, step)
    return list(HEARD)


def scored_by(model: Any, sequences: Any, mask: Tensor) -> Tensor:
    with torch.no_grad():
        return score(model, sequences, mask).logprobs


def test_a_step_is_scored_before_it_is_shaped_and_grpo_stays_grpo_bit_for_bit() -> None:
    (batch,) = heard()
    model = tiny_model()
    torch.testing.assert_close(batch.old_logprobs, scored_by(model, batch.student, batch.mask), atol=1e-5, rtol=0)
    torch.testing.assert_close(batch.teacher_logprobs, scored_by(model, batch.teacher, batch.mask), atol=1e-5, rtol=0)
    (view,) = batch.more_teachers
    expected = scored_by(model, view.sequences, batch.mask) * view.is_there[:, None]
    torch.testing.assert_close(view.logprobs, expected, atol=1e-5, rtol=0)
    assert view.is_there.tolist() == [i % 3 != 1 for i in range(12)]
    # With one update and with several, what it does not shape is GRPO's.
    for settings in ({}, {"mini_batches": 2}):
        prints = []
        for method in (Listener(), GRPO()):
            trained = tiny_model()
            learner(method, model=trained, **settings).learn(ROWS, 1)
            prints.append(fingerprint(trained))
        assert prints[0] == prints[1]


def test_views_that_no_method_reads_are_not_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    inner = Learner._teacher_logprobs
    monkeypatch.setattr(Learner, "_teacher_logprobs", lambda self, *args: (calls.append(1), inner(self, *args))[1])
    learner("sdar").learn(ROWS, 1)
    assert len(calls) == 1
    learner("ocsd").learn(ROWS, 1)
    assert len(calls) == 3


def test_a_live_teacher_cannot_shape_a_whole_step() -> None:
    for method in ("agentopsd", "adrs", "grsd", "ocsd"):
        with pytest.raises(InvalidOption, match="shapes the advantages of a whole step"):
            learner(method, teacher="live")
    learner("serl", teacher="live").learn(ROWS, 1)


def test_a_lagged_teacher_is_renewed_every_few_steps_and_resumes() -> None:
    batches = heard(steps=4, teacher="lagged", teacher_every=2)
    said = [batch.teacher_logprobs for batch in batches]
    assert torch.equal(said[0], said[1])
    assert torch.equal(said[2], said[3])
    assert not torch.equal(said[1], said[2])
    prints = []
    for is_resumed in (False, True):
        model = tiny_model()
        one = learner(SERL(kl_coef=0.0), model=model, teacher="lagged", teacher_every=2)
        for step in (1, 2, 3):
            one.learn(ROWS, step)
        if is_resumed:
            state = one.state_dict()
            one = learner(SERL(kl_coef=0.0), model=model, teacher="lagged", teacher_every=2)
            one.load_state_dict(state)
        one.learn(ROWS, 4)
        prints.append(fingerprint(model))
    assert prints[0] == prints[1]


class TestExternal:
    def test_another_model_speaks_with_its_own_weights(self) -> None:
        other = tiny_model(7)
        (batch, _) = heard(steps=2, teacher="external", teacher_model="m", teacher_=ModelTeacher(tiny_model(7)))
        expected = scored_by(other, batch.teacher, batch.mask)
        torch.testing.assert_close(batch.teacher_logprobs, expected, atol=1e-5, rtol=0)
        assert fingerprint(other) == fingerprint(tiny_model(7))

    def test_it_can_be_compared_in_whole_distributions(self) -> None:
        model = tiny_model()
        rows = [replace(row, is_success=True) for row in ROWS]
        one = learner("sdpo", model=model, teacher="external", teacher_model="m", teacher_=ModelTeacher(tiny_model(7)))
        numbers = one.learn(rows, 1).metrics
        assert numbers["distill/jsd_topk"] > 0.01
        assert fingerprint(model) != fingerprint(tiny_model())

    def test_an_engine_scores_given_tokens(self, own_scorer: str) -> None:
        tokenizer = tiny_tokenizer()
        teacher = open_teacher(f"{own_scorer}:Uniform", tokenizer, options={"value": -2.0})
        batch = make_batch(ROWS, pad_id=PAD)
        assert batch.teacher is not None
        mask = batch.mask.clone()
        mask[0] = False
        values = teacher.logprobs(batch.teacher, mask, ScoringOptions(temperature=0.5), max_tokens=100)
        # Its number over the temperature, minus a hundredth for each token of the prompt.
        lengths = batch.teacher.prompt_lengths[:, None]
        torch.testing.assert_close(values, (-4.0 - 0.01 * lengths) * mask, atol=1e-6, rtol=0)
        with pytest.raises(InvalidOption, match=r"compares whole distributions, and the teacher .*Uniform returns"):
            teacher.view(batch)

    def test_teacher_and_reference_may_be_scored_elsewhere(self) -> None:
        """By a copy of the model, row by row: the step is the same, to rounding."""

        class Copy:
            tokenizer = None
            model = tiny_model()

            def score(self, prompts: Any, responses: Any, *, temperature: float) -> Any:
                rows = [Row(tuple(a), tuple(b)) for a, b in zip(prompts, responses, strict=True)]
                batches = [make_batch([row], pad_id=PAD) for row in rows]
                return [scored_by(self.model, batch.student, batch.mask)[0].tolist() for batch in batches]

        algorithm = make_algorithm("sdar", suite="alfworld", kl_coef=0.01)
        found, copy = [], ScorerTeacher(Copy(), "it")
        for scores, others in ((), {}), (("engine",), {"teacher": copy, "reference": copy}):
            settings = LearnerSettings(lr=0.05, **dict(zip(("teacher_scores",), scores, strict=False)))
            found.append(Learner(tiny_model(), algorithm, settings, pad_id=PAD, **others).learn(ROWS, 1).metrics)
        assert found[1] == pytest.approx(found[0], rel=1e-4, abs=1e-6)

    def test_what_an_engine_gets_wrong_is_named(self, own_scorer: str) -> None:
        tokenizer = tiny_tokenizer()
        batch = make_batch(ROWS, pad_id=PAD)
        for name, message in (("Short", "one number per token"), ("Broken", "not finite")):
            teacher = open_teacher(f"{own_scorer}:{name}", tokenizer)
            with pytest.raises(InvalidOption, match=message):
                teacher.logprobs(batch.student, batch.mask, ScoringOptions(), max_tokens=100)
        with pytest.raises(UnknownName, match="it lacks tokenizer; wanted the members of"):
            open_teacher(f"{own_scorer}:Mute", tokenizer)
        with pytest.raises(InvalidOption, match="cannot be made with a tokenizer and the options valu"):
            open_teacher(f"{own_scorer}:Uniform", tokenizer, options={"valu": 1.0})
        with pytest.raises(UnknownName, match="is a function; wanted a class"):
            open_teacher(f"{own_scorer}:function", tokenizer)
        with pytest.raises(InvalidOption, match="teacher_options are for module:Class"):
            open_teacher("folder", tokenizer, options={"value": 1.0})

    def test_another_tokenizer_is_refused_with_its_first_difference(self, own_scorer: str) -> None:
        ours, theirs = tiny_tokenizer(), tiny_tokenizer()
        check_same_tokenizer(ours, theirs, "twin")
        theirs.add_tokens(["zebra"])
        with pytest.raises(InvalidOption, match=r"wide has another tokenizer .*'zebra' is none of the student's"):
            check_same_tokenizer(ours, theirs, "wide")
        lower = tiny_tokenizer()
        lower.backend_tokenizer.normalizer = __import__("tokenizers").normalizers.Lowercase()
        with pytest.raises(InvalidOption, match="they cut '<think>Price"):
            check_same_tokenizer(ours, lower, "lower")
        with pytest.raises(InvalidOption, match="has another tokenizer than the student"):
            open_teacher(f"{own_scorer}:Stranger", ours)

    def test_settings_and_teacher_must_agree(self) -> None:
        with pytest.raises(InvalidOption, match="an external teacher needs a model or module:Class"):
            LearnerSettings(teacher="external")
        with pytest.raises(InvalidOption, match="teacher is old and teacher_model 'x'"):
            LearnerSettings(teacher_model="x")
        with pytest.raises(InvalidOption, match=r"pass what open_teacher\(...\) returns"):
            learner("sdar", teacher="external", teacher_model="x")
        with pytest.raises(InvalidOption, match="a ScorerTeacher for teacher_scores engine"):
            learner("sdar", teacher_scores="engine")
        learner("grpo", teacher="external", teacher_model="x").learn(ROWS, 1)


SCORERS = """
from helpers.tiny_models import tiny_tokenizer


class Uniform:
    def __init__(self, tokenizer, value=-1.0):
        self.tokenizer, self.value = tokenizer, value

    def score(self, prompts, responses, *, temperature):
        assert all(responses)
        pairs = zip(prompts, responses, strict=True)
        return [[self.value / temperature - 0.01 * len(prompt)] * len(ids) for prompt, ids in pairs]


class Short(Uniform):
    def score(self, prompts, responses, *, temperature):
        return [[0.0] * (len(ids) - 1) for ids in responses]


class Broken(Uniform):
    def score(self, prompts, responses, *, temperature):
        return [[float("nan")] * len(ids) for ids in responses]


class Stranger(Uniform):
    def __init__(self, tokenizer):
        self.tokenizer = tiny_tokenizer()
        self.tokenizer.add_tokens(["zebra"])


class Mute:
    def __init__(self, tokenizer):
        pass

    def score(self, prompts, responses, *, temperature):
        return []


def function():
    pass
"""


@pytest.fixture
def own_scorer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_scorers.py").write_text(SCORERS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    monkeypatch.delitem(sys.modules, "own_scorers", raising=False)
    return "own_scorers"


def test_a_scorer_is_asked_for_rows_with_tokens_alone() -> None:
    class Listening:
        tokenizer = None

        def score(self, prompts: Any, responses: Any, *, temperature: float) -> Any:
            self.asked = responses
            return [[0.0] * len(ids) for ids in responses]

    batch, scorer = make_batch(ROWS, pad_id=PAD), Listening()
    ScorerTeacher(scorer, "it").logprobs(batch.student, batch.mask, ScoringOptions(), max_tokens=1)
    assert scorer.asked == [list(row.response_ids) for row in ROWS if row.response_ids]


class TestControls:
    def test_permuted_gaps_are_the_same_gaps_on_other_tokens(self) -> None:
        (plain,), (spoilt,) = heard(), heard(teacher_control="permuted-weights")
        assert torch.equal(plain.old_logprobs, spoilt.old_logprobs)
        before, after = ((each.teacher_logprobs - each.old_logprobs)[each.teacher_mask] for each in (plain, spoilt))
        assert not torch.allclose(before, after)
        torch.testing.assert_close(before.sort().values, after.sort().values, atol=1e-5, rtol=0)
        # Another step deals them out in another way, the same step in the same.
        first, second = heard(steps=2, lr=0.0, weight_decay=0.0, teacher_control="permuted-weights")
        assert torch.equal(first.teacher_logprobs, spoilt.teacher_logprobs)
        assert not torch.allclose(first.teacher_logprobs, second.teacher_logprobs)

    def test_without_a_sign_the_gaps_keep_their_size(self) -> None:
        (plain,), (spoilt,) = heard(), heard(teacher_control="no-sign")
        gaps = plain.teacher_logprobs - plain.old_logprobs
        assert (gaps < 0).any()
        torch.testing.assert_close(spoilt.teacher_logprobs - spoilt.old_logprobs, gaps.abs(), atol=1e-5, rtol=0)
        for one, other in zip(plain.more_teachers, spoilt.more_teachers, strict=True):
            size = (one.logprobs - plain.old_logprobs).abs()[one.is_there]
            torch.testing.assert_close((other.logprobs - plain.old_logprobs)[one.is_there], size, atol=1e-5, rtol=0)

    def test_a_teacher_that_is_the_student_has_no_gap(self) -> None:
        (batch,) = heard(teacher_control="teacher-is-student")
        torch.testing.assert_close(batch.teacher_logprobs, batch.old_logprobs, atol=1e-5, rtol=0)
        numbers = learner("sdar", teacher_control="teacher-is-student").learn(ROWS, 1).metrics
        assert numbers["distill/rows_without_gap"] == 1.0
        assert numbers["distill/gate"] == pytest.approx(0.5, abs=1e-5)
        rows = control_rows(ROWS, "teacher-is-student")
        assert [len(row.more_teacher_prompts) for row in rows] == [len(row.more_teacher_prompts) for row in ROWS]
        assert control_rows(ROWS, "none") is ROWS
        batch = heard()[0]
        assert control_batch(batch, "teacher-is-student", 0) is batch

    @pytest.mark.parametrize("control", ["permuted-weights", "no-sign", "teacher-is-student"])
    @pytest.mark.parametrize("method", ["sdar", "agentopsd"])
    def test_a_control_changes_what_is_learnt(self, method: str, control: Any) -> None:
        prints = []
        for kind in ("none", control):
            model = tiny_model()
            learner(method, model=model, teacher_control=kind).learn(ROWS, 1)
            prints.append(fingerprint(model))
        assert prints[0] != prints[1]

    def test_what_it_cannot_spoil_is_refused(self) -> None:
        with pytest.raises(InvalidOption, match="teacher_control is no-sign, and GRPO has no teacher"):
            learner("grpo", teacher_control="no-sign")
        with pytest.raises(InvalidOption, match="SDPO compares whole distributions"):
            learner("sdpo", teacher_control="permuted-weights")
        with pytest.raises(InvalidOption, match="acts on the gaps of a whole step"):
            LearnerSettings(teacher_control="no-sign", teacher="live")
        with pytest.raises(InvalidOption, match="teacher is ema, which has other weights than the student"):
            LearnerSettings(teacher_control="teacher-is-student", teacher="ema")
        learner("sdpo", teacher_control="teacher-is-student").learn(ROWS, 1)


def test_rows_that_are_distilled_alone_leave_the_policys_terms_alone() -> None:
    extra = [
        replace(row, episode_id=f"{row.episode_id}/sibling", is_trained=False, group_id="g0", answer_start=None)
        for row in random_rows(3, seed=9, empty=False)
    ]
    rows = [replace(row, teacher_prompt_ids=None, more_teacher_prompts=()) for row in ROWS]
    alone = learner("grpo", lr=0.0).learn(rows, 1).metrics
    one = learner("sdar", lr=0.0, mini_batches=2).learn([*rows, *extra], 1)
    names = ["kl/ref", "group/zero_task_std", "policy/entropy", "policy/advantage_size"]
    assert {name: one.metrics[name] for name in names} == pytest.approx({name: alone[name] for name in names})
    assert set(one.gaps) == {row.episode_id for row in extra}
    tokens = [sum(len(row.response_ids) for row in each) for each in (extra, [*rows, *extra])]
    assert one.metrics["distill/has_teacher"] == pytest.approx(tokens[0] / tokens[1])


def test_weights_of_the_teacher_scale_its_term() -> None:
    model = tiny_model()
    plain = learner("grpo_opsd", model=model, lr=0.0, gradient_parts_every=1).learn(ROWS, 1).metrics
    doubled = [
        replace(row, teacher_weight=4.0, token_weights=(0.5,) * len(row.response_ids)) if row.response_ids else row
        for row in ROWS
    ]
    other = learner("grpo_opsd", lr=0.0, gradient_parts_every=1).learn(doubled, 1).metrics
    assert other["gradient/distill"] == pytest.approx(2 * plain["gradient/distill"], rel=1e-5)
    assert other["gradient/policy"] == pytest.approx(plain["gradient/policy"], rel=1e-6)


def test_a_given_advantage_stays_what_it_is() -> None:
    rows = [replace(row, given_advantage=0.25, group_id="notes") if i < 2 else row for i, row in enumerate(ROWS)]
    advantages, _ = GRPO().advantages(rows, make_batch(rows, pad_id=PAD))
    others, _ = GRPO().advantages(rows[2:], make_batch(rows[2:], pad_id=PAD))
    assert advantages[:2].tolist() == [0.25, 0.25]
    assert torch.equal(advantages[2:], others)


def test_coefficients_follow_the_steps() -> None:
    windowed = make_algorithm(
        "sdar", suite="alfworld", distill_first_step=2, distill_last_step=8, distill_warmdown_steps=10
    )
    factors = [windowed.coefficients(step).distill for step in (1, 2, 5, 8, 9)]  # type: ignore[attr-defined]
    assert factors == pytest.approx([0.0, 0.8, 0.5, 0.2, 0.0])
    prints = []
    for method in (windowed, make_algorithm("grpo", suite="alfworld"), make_algorithm("sdar", suite="alfworld")):
        model = tiny_model()
        learner(method, model=model).learn(ROWS, 1)  # type: ignore[arg-type]
        prints.append(fingerprint(model))
    assert prints[0] == prints[1] != prints[2]
    entropies = [learner(ADRS(window_entropy_coef=0.5)).learn(ROWS, step).metrics["loss/total"] for step in (20, 21)]
    assert entropies[1] < entropies[0] - 0.5


def test_the_gap_is_told_by_part_and_the_teachers_weight_by_agreement() -> None:
    numbers = learner("sdar", lr=0.0, max_tokens=64).learn(ROWS, 1).metrics
    batch, model = make_batch(ROWS, pad_id=PAD), tiny_model()
    gap = scored_by(model, batch.teacher, batch.mask) - scored_by(model, batch.student, batch.mask)
    answer = batch.answer_mask
    assert answer is not None
    assert numbers["gap_by_part/answer"] == pytest.approx(float(gap[answer].mean()), abs=1e-5)
    assert numbers["gap_by_part/thought"] == pytest.approx(float(gap[batch.mask & ~answer].mean()), abs=1e-5)
    assert numbers["gap_positive_by_part/answer"] == pytest.approx(float((gap[answer] > 0).float().mean()), abs=1e-6)
    advantages, _ = GRPO().advantages(ROWS, batch)
    gate = torch.sigmoid(5 * gap) * batch.mask
    share = (gate * (advantages[:, None] * gap < 0)).sum() / gate.sum()
    assert numbers["distill/conflict"] == pytest.approx(float(share), abs=1e-5)
