"""The methods around SDAR: numbers by hand, identities, and their formulas written once more in plain Python."""

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from helpers.tiny_models import PAD, gradients, largest_difference, lookup_model, random_rows, scored_batch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sdar_agents.algorithms import ADRS, GRSD, OCSD, OPID, RLSD, SERL, AgentOPSD, GiGPO, StepOPSD, make_algorithm
from sdar_agents.algorithms.methods.adrs import teacher_value
from sdar_agents.algorithms.methods.agentopsd import belief_revisions
from sdar_agents.algorithms.methods.gigpo import state_groups
from sdar_agents.scoring.batch import Batch, make_batch
from sdar_agents.scoring.head import Scores
from sdar_agents.scoring.logprobs import score
from sdar_agents.scoring.metrics import summarise
from sdar_agents.types import Row
from sdar_envs.errors import InvalidOption

SHAPERS = ("adrs", "agentopsd", "grsd", "ocsd", "opid", "rlsd", "serl", "stepopsd")


def turn(episode: str, index: int, tokens: int = 1, **facts: Any) -> Row:
    """A row of one group; all that is not given is as in an episode that fails."""
    ids = tuple(range(1, tokens + 1))
    facts = {"group_id": "g", "teacher_prompt_ids": (9, 9)} | facts
    return Row(prompt_ids=(9,), response_ids=ids, episode_id=episode, turn_index=index, **facts)


def batch_of(rows: list[Row], gaps: list[list[float]], *, old: float = -1.0) -> Batch:
    """A batch whose rollout's log-probs are all the same, with these gaps of the teacher."""
    batch = make_batch(rows, pad_id=PAD)
    olds = torch.full(batch.mask.shape, old) * batch.mask
    return batch.replace(old_logprobs=olds, teacher_logprobs=olds + torch.tensor(gaps) * batch.mask)


def shaped(algorithm: Any, advantages: list[float], rows: list[Row], batch: Batch, step: int = 30) -> Tensor:
    values: Tensor = algorithm.shape_advantages(torch.tensor(advantages), rows, batch, step).values
    return values


def close(values: Tensor, expected: Any, places: float = 1e-5) -> None:
    torch.testing.assert_close(values, torch.tensor(expected), atol=places, rtol=0)


class TestGiGPO:
    ROWS = (
        turn("a", 0, state="hall", turn_reward=0.0, episode_return=10.0),
        turn("a", 1, state="lift", turn_reward=10.0, episode_return=10.0),
        turn("b", 0, state="hall", invalid_penalty=0.0),
        turn("b", 1, state="roof"),
    )

    def test_by_hand(self) -> None:
        # Episodes: 10 and 0, mean 5. Hall: G = 0.5 x 10 and 0, mean 2.5. Lift and roof were visited once.
        rows = list(self.ROWS)
        values, metrics = GiGPO(gamma=0.5).advantages(rows, make_batch(rows, pad_id=PAD))
        assert values.tolist() == [7.5, 5.0, -7.5, -5.0]
        assert summarise(metrics)["group/states_shared"] == 0.5
        # With deviations: 10/sqrt(3) of four rows, and 5/sqrt(2) of the two in the hall.
        values, _ = GiGPO(gamma=0.5, advantage_std=True).advantages(rows, make_batch(rows, pad_id=PAD))
        wide, narrow = 5 / (10 / 3**0.5), 2.5 / (5 / 2**0.5)
        close(values, [wide + narrow, wide, -wide - narrow, -wide])

    def test_a_penalty_is_the_episodes_part_alone(self) -> None:
        rows = [replace(self.ROWS[0], invalid_penalty=1.0), *self.ROWS[1:]]
        values, _ = GiGPO(gamma=0.5).advantages(rows, make_batch(rows, pad_id=PAD))
        # Scores 9, 10, 0, 0: mean 4.75.
        assert values.tolist() == [4.25 + 2.5, 5.25, -4.75 - 2.5, -4.75]

    def test_similar_observations_are_one_state_if_asked(self) -> None:
        rows = [turn("a", 0, state="x" * 20), turn("b", 0, state="x" * 19 + "y"), turn("c", 0, state="z" * 20)]
        assert state_groups(rows).tolist() == [0, 1, 2]
        assert state_groups(rows, 0.9).tolist() == [0, 0, 2]
        other = replace(rows[1], group_id="h")
        assert state_groups([rows[0], other], 0.9).tolist() == [0, 1]

    def test_rows_that_are_not_compared_change_nothing(self) -> None:
        rows = list(self.ROWS)
        extra = [
            turn("a/sibling", 0, state="hall", is_trained=False, turn_reward=99.0),
            turn("note", 0, state="hall", given_advantage=0.3, episode_return=99.0),
        ]
        values, _ = GiGPO(gamma=0.5).advantages([*rows, *extra], make_batch([*rows, *extra], pad_id=PAD))
        assert values.tolist() == [7.5, 5.0, -7.5, -5.0, 0.0, pytest.approx(0.3)]


# The teacher's evidence on the eight turns of an episode, in nats.
EVIDENCE = (-0.2, -2.6, -1.2, -1.9, -1.5, -4.0, -1.4, -8.9)
# By hand: V is the sigmoid of logit V_0 + the sums; each factor 1 + 0.1 z, clipped at 0.9.
FROM_RETURNS = (1.05, 1.05, 1.05, 1.04, 1.01, 0.90, 1.02, 1.04)
FROM_SUCCESS = (1.01, 0.90, 1.02, 1.04, 1.05, 1.05, 1.05, 1.05)


class TestAgentOPSD:
    def episode(self) -> tuple[list[Row], Batch]:
        """Eight turns of two tokens, one with a return of 10, and an episode of the group that failed."""
        rows = [turn("a", k, 2, episode_return=10.0, is_success=True) for k in range(8)]
        rows.append(turn("b", 0, 2, teacher_prompt_ids=None))
        gaps = [[e - 1.0, 1.0] for e in EVIDENCE]
        return rows, batch_of(rows, [*gaps, [0.0, 0.0]])

    def test_the_prior_is_the_success_rate_and_not_the_return(self) -> None:
        rows, batch = self.episode()
        ours = shaped(AgentOPSD(), [1.0] * 9, rows, batch)
        assert [round(value, 2) for value in ours[:8, 0].tolist()] == list(FROM_SUCCESS)
        # As released: the mean return of 5 pins the prior at 0.9999, and the same gaps say something else.
        released = shaped(AgentOPSD(return_scale=1.0), [1.0] * 9, rows, batch)
        assert [round(value, 2) for value in released[:8, 0].tolist()] == list(FROM_RETURNS)
        close(shaped(AgentOPSD(return_scale=10.0), [1.0] * 9, rows, batch), ours.tolist())
        # All tokens of a turn have its factor, and an episode without a teacher keeps its advantage.
        assert torch.equal(ours[:, 0], ours[:, 1])
        assert ours[8].tolist() == [1.0, 1.0]

    def test_a_negative_advantage_turns_the_factors_round(self) -> None:
        rows, batch = self.episode()
        ours = shaped(AgentOPSD(weight_clip=1.0), [-2.0] * 9, rows, batch)
        plain = shaped(AgentOPSD(weight_clip=1.0), [2.0] * 9, rows, batch)
        # 2 (1 + x) and -2 (1 - x).
        close(plain[:8] + 2 * torch.ones(8, 2), (6 + ours[:8]).tolist())

    def test_tokens_by_hand(self) -> None:
        # V: 1/2, sigmoid(1) = 0.731, 1/2. The two revisions are opposite, so z is 1 and -1 but for the epsilons.
        rows = [turn("a", 0, 2, is_success=True), turn("b", 0, 2)]
        batch = batch_of(rows, [[1.0, -1.0], [0.0, 0.0]])
        values = shaped(AgentOPSD(granularity="token"), [2.0, 2.0], rows, batch)
        close(values, [[2.2, 1.8], [2.0, 2.0]], 1e-4)

    def test_beliefs_by_hand(self) -> None:
        prior = torch.tensor([0.25], dtype=torch.float64)
        evidence = torch.tensor([[math.log(3.0), math.log(3.0), 0.0]], dtype=torch.float64)
        # Odds 1/3, 1, 3, 3.
        close(belief_revisions(prior, evidence).float(), [[0.25, 0.25, 0.0]], 1e-6)
        # With decay 1/2 the log-odds move by log 3 times 1, 1.5 and 0.75.
        odds = [3**x for x in (-1, 0, 0.5, -0.25)]
        beliefs = [o / (1 + o) for o in odds]
        expected = [after - before for before, after in pairwise(beliefs)]
        close(belief_revisions(prior, evidence, 0.5).float(), [expected], 1e-6)

    def test_no_gap_and_a_single_turn_leave_the_advantage_bit_for_bit(self) -> None:
        rows, _ = self.episode()
        for granularity in ("turn", "token"):
            algorithm = AgentOPSD(granularity=granularity)  # type: ignore[arg-type]
            values = shaped(algorithm, [0.3] * 9, rows, batch_of(rows, [[0.0, 0.0]] * 9))
            assert torch.equal(values, torch.full((9, 2), 0.3))
        single = [turn("a", 0, 2), turn("b", 0, 2, is_success=True)]
        values = shaped(AgentOPSD(), [0.3, -0.7], single, batch_of(single, [[2.0, 1.0], [-3.0, 0.5]]))
        assert torch.equal(values, torch.tensor([[0.3, 0.3], [-0.7, -0.7]]))

    @settings(max_examples=30)
    @given(st.lists(st.floats(-50, 50), min_size=2, max_size=9), st.floats(-3, 3))
    def test_factors_are_bounded_and_average_one(self, evidence: list[float], advantage: float) -> None:
        rows = [turn("a", k, is_success=k % 2 == 0) for k in range(len(evidence))]
        batch = batch_of(rows, [[e] for e in evidence])
        values = shaped(AgentOPSD(), [advantage] * len(rows), rows, batch)[:, 0]
        ends = sorted((0.9 * advantage, 1.1 * advantage))
        assert all(ends[0] - 1e-6 <= value <= ends[1] + 1e-6 for value in values.tolist())
        free = shaped(AgentOPSD(weight_clip=1.0, slope=0.01), [1.0] * len(rows), rows, batch)
        assert float(free.mean()) == pytest.approx(1.0, abs=1e-5)


class TestGRSD:
    ROWS = (turn("a", 0, 2, is_success=True), turn("b", 0, 2))

    def test_by_hand_and_what_its_bound_changes(self) -> None:
        rows = list(self.ROWS)
        batch = batch_of(rows, [[0.3, -0.1], [0.0, 0.2]])
        # d = 0.1 in both; u = e^0.1 - 1 = 0.10517 and e^-0.1 - 1 = -0.09516; their mean size is 0.10017.
        # n = 1.04998 and -0.95001: at the README's bound 0.2, factors 1.1 and 0.9.
        close(shaped(GRSD(), [1.0, -1.0], rows, batch), [[1.1] * 2, [-0.9] * 2])
        # At the code's bound 3: 1 + 0.5 n.
        close(shaped(GRSD(g_max=3.0), [1.0, -1.0], rows, batch), [[1.52499] * 2, [-0.52500] * 2], 1e-4)
        # Gaps a thousand times as small change nothing, because the group's own size is the unit.
        small = batch_of(rows, [[0.0003, -0.0001], [0.0, 0.0002]])
        close(shaped(GRSD(), [1.0, -1.0], rows, small), [[1.1] * 2, [-0.9] * 2])
        assert torch.equal(shaped(GRSD(dead_zone=2.0), [1.0, -1.0], rows, batch), torch.tensor([[1.0] * 2, [-1.0] * 2]))

    def test_groups_with_one_outcome_have_no_teacher(self) -> None:
        rows = [*self.ROWS, turn("c", 0, group_id="h"), turn("d", 0, group_id="h")]
        prepared = GRSD().prepare_rows(rows)
        assert [row.teacher_prompt_ids is not None for row in prepared] == [True, True, False, False]
        assert GRSD(mixed_groups=False).prepare_rows(rows) == rows

    def test_the_mean_size_of_the_agreement_is_one(self) -> None:
        rows = [replace(row, group_id="g") for row in random_rows(11)]
        batch = scored_batch(rows)
        factors = shaped(GRSD(g_max=1e6, shaping_coef=1e-3), [1.0] * 11, rows, batch)
        sizes = ((factors - 1.0) / 1e-3).abs()[:, 0][batch.mask.any(dim=1)]
        assert float(sizes.mean()) == pytest.approx(1.0, abs=1e-3)

    def test_tokens_by_themselves_are_rlsd(self) -> None:
        batch = scored_batch(rows := random_rows(11))
        ours = GRSD(granularity="token", scale_by_group=False, mixed_groups=False)
        values = shaped(ours, batch.part("advantages").tolist(), rows, batch)
        rlsd = RLSD(warmdown_steps=0).token_advantages(batch, Scores(batch.part("old_logprobs")), 1)
        torch.testing.assert_close(values[batch.mask], rlsd.values[batch.mask], atol=1e-5, rtol=0)

    def test_extreme_gaps_stay_finite(self) -> None:
        rows = list(self.ROWS)
        values = shaped(GRSD(g_max=3.0), [5.0, -5.0], rows, batch_of(rows, [[1000.0, 1000.0], [-1000.0, 1000.0]]))
        assert torch.isfinite(values).all()
        assert (values.sign() == torch.tensor([[1.0], [-1.0]])).all()


class TestOCSD:
    def test_the_most_uncertain_turns_follow_the_difference_of_the_views(self) -> None:
        rows = [turn("a", k, 2, more_teacher_prompts=((8,),)) for k in range(5)]
        rows.append(turn("a", 5, 2))
        batch = make_batch(rows, pad_id=PAD)
        olds = torch.tensor([[-0.1] * 2, [-0.9] * 2, [-0.2] * 2, [-0.5] * 2, [-0.3] * 2, [-9.0] * 2])
        full = olds + torch.tensor([0.5, -0.5])
        blank = batch.more_teachers[0]
        batch = batch.replace(
            old_logprobs=olds, teacher_logprobs=full, more_teachers=(replace(blank, logprobs=full - 0.3),)
        )
        # One of five turns; the sixth is the least certain, and has no second view.
        values = shaped(OCSD(), [2.0, 2.0, 2.0, -2.0, 2.0, 2.0], rows, batch)
        assert values[[0, 2, 3, 4, 5]].tolist() == [[2.0] * 2, [2.0] * 2, [-2.0] * 2, [2.0] * 2, [2.0] * 2]
        close(values[1], [2 * (1 + 0.5 * math.tanh(0.3))] * 2)
        both = shaped(OCSD(turn_share=0.4), [2.0, 2.0, 2.0, -2.0, 2.0, 2.0], rows, batch)
        close(both[3], [-2 * (1 - 0.5 * math.tanh(0.3))] * 2)

    def test_without_a_second_view_it_is_grpo(self) -> None:
        batch = batch_of(rows := [turn("a", 0, 2)], [[1.0, 1.0]])
        assert torch.equal(shaped(OCSD(), [0.7], rows, batch), torch.full((1, 2), 0.7))


def with_view(batch: Batch, gaps: Tensor) -> Batch:
    view = replace(batch.more_teachers[0], logprobs=batch.part("old_logprobs") + gaps)
    return batch.replace(more_teachers=(view,))


class TestOPID:
    def test_by_hand(self) -> None:
        rows = [turn("a", 0, 2, more_teacher_prompts=((8,),)), turn("a", 1, 2)]
        batch = with_view(batch_of(rows, [[0.5, -1.0], [2.0, 0.0]]), torch.tensor([[3.0, 1.0], [7.0, 7.0]]))
        batch = batch.replace(advantages=torch.tensor([1.0, 0.0]))
        scores = Scores(batch.part("old_logprobs"))
        first = OPID(episode_coef=0.1, step_coef=0.01)
        close(first.token_advantages(batch, scores, 1).values, [[1.03, 1.01], [0.2, 0.0]])
        # A turn with a skill of its own does not see the episode's.
        other = OPID(episode_coef=9.0, step_coef=0.01).token_advantages(batch, scores, 1).values
        close(other[0], [1.03, 1.01])
        added = OPID(episode_coef=0.1, step_coef=0.01, routing="additive").token_advantages(batch, scores, 1).values
        close(added, [[1.08, 0.91], [0.2, 0.0]])

    def test_its_gradient_at_ratio_one_is_that_of_grpo_opsd(self) -> None:
        batch = scored_batch(random_rows(11)).replace(more_teachers=(), sampler_logprobs=None)
        grads = []
        for algorithm in (OPID(episode_coef=0.3), make_algorithm("grpo_opsd", suite="alfworld", distill_coef=0.3)):
            model = lookup_model(torch.randn(64, 64, generator=torch.Generator().manual_seed(0)))
            scores = score(model, batch.student, batch.mask)
            own = batch.replace(old_logprobs=scores.logprobs.detach()).weighed("token-mean")
            algorithm.loss(own, scores).loss.backward()
            grads.append(gradients(model))
        assert largest_difference(*grads) < 1e-6


class TestADRS:
    def two(self, **returns: float) -> tuple[list[Row], Batch]:
        rows = [turn("a", 0, 2, episode_return=10.0), turn("b", 0, 2)]
        return rows, batch_of(rows, [[0.0, -2.0], [-1.0, -1.0]])

    def test_by_hand(self) -> None:
        # T is -1, -3 and -2, -2: x is 1, -1, 0, 0 with deviation 1/sqrt(2) in the group.
        rows, batch = self.two()
        sizes = 0.02 * 2**0.5
        plain = shaped(ADRS(gate="none"), [0.5, -0.5], rows, batch)
        close(plain, [[0.5 + sizes, 0.5 - sizes], [-0.5, -0.5]])
        # Both rows are as likely, so V is 0 and the gate 1/2.
        close(shaped(ADRS(), [0.5, -0.5], rows, batch), [[0.5 + sizes / 2, 0.5 - sizes / 2], [-0.5, -0.5]])
        close(shaped(ADRS(gate="none", eta=10.0), [0.5, -0.5], rows, batch), [[0.7, 0.3], [-0.5, -0.5]])

    def test_the_value_of_the_teachers_preference(self) -> None:
        weights, returns = torch.tensor([0.75, 0.25]), torch.tensor([10.0, 0.0])
        assert float(teacher_value(weights, returns)) == pytest.approx(7.5 - 2.5)
        assert float(teacher_value(weights[:0], returns[:0])) == 0.0

    def test_a_gate_before_the_groups_standardisation_cancels_and_one_behind_it_acts(self) -> None:
        rows = [replace(row, episode_return=row.episode_return / 10) for row in random_rows(11)]
        batch = scored_batch(rows)
        advantages = batch.part("advantages").tolist()

        def with_gate(gate: Any, tau: float = 2.0) -> Tensor:
            return shaped(ADRS(gate=gate, tau=tau, eta=0.5, shaping_clip=9.0), advantages, rows, batch)

        torch.testing.assert_close(with_gate("before"), with_gate("none"), atol=1e-5, rtol=0)
        torch.testing.assert_close(with_gate("before", 6.0), with_gate("before", 2.0), atol=1e-5, rtol=0)
        assert float((with_gate("after") - with_gate("none")).abs().max()) > 0.05
        assert float((with_gate("after", 0.2) - with_gate("after", 2.0)).abs().max()) > 0.01

    def test_the_signal_is_the_teachers_alone_or_the_gap(self) -> None:
        batch = scored_batch(rows := random_rows(11))
        advantages = batch.part("advantages").tolist()
        other = batch.replace(old_logprobs=batch.part("old_logprobs").flip(0) * batch.mask)
        released, gapped = ADRS(gate="none"), ADRS(gate="none", signal="gap")
        assert torch.equal(shaped(released, advantages, rows, batch), shaped(released, advantages, rows, other))
        assert not torch.equal(shaped(gapped, advantages, rows, batch), shaped(gapped, advantages, rows, other))

    def test_it_sums_to_zero_over_a_group_and_ignores_the_scale_of_a_row(self) -> None:
        batch = scored_batch(rows := random_rows(11))
        added = shaped(ADRS(gate="none"), [0.0] * 11, rows, batch)
        for group in batch.group_index.unique():
            assert float(added[batch.group_index == group].sum()) == pytest.approx(0.0, abs=1e-5)
        teacher = batch.part("teacher_logprobs")
        scaled = batch.replace(teacher_logprobs=(3.0 * teacher - torch.arange(11.0)[:, None]) * batch.mask)
        torch.testing.assert_close(shaped(ADRS(gate="none"), [0.0] * 11, rows, scaled), added, atol=1e-4, rtol=0)

    def test_groups_without_a_difference_and_steps_outside_the_window_are_grpos(self) -> None:
        rows, batch = self.two()
        equal = [replace(row, episode_return=1.0) for row in rows]
        assert torch.equal(shaped(ADRS(), [0.0, 0.0], equal, batch), torch.zeros(2, 2))
        for step, is_active in ((20, False), (21, True), (70, True), (71, False)):
            values = shaped(ADRS(), [0.5, -0.5], rows, batch, step)
            assert (values.dim() == 2) == is_active
            assert is_active or values.tolist() == [0.5, -0.5]
        boosted = ADRS(window_entropy_coef=0.01, entropy_coef=0.001)
        assert [boosted.coefficients(step).entropy for step in (20, 21, 70, 71)] == [0.001, 0.01, 0.01, 0.001]
        with pytest.raises(InvalidOption, match="last_step is 3, before first_step 21"):
            ADRS(last_step=3)

    def test_a_clip_that_adapts_is_smaller_in_groups_with_less_difference(self) -> None:
        rows, batch = self.two()
        rows += [
            replace(row, group_id="h", episode_id=row.episode_id + "h", episode_return=r)
            for row, r in zip(rows, (1.0, 0.0), strict=True)
        ]
        batch = batch_of(rows, [[0.0, -2.0], [-1.0, -1.0]] * 2)
        values = shaped(ADRS(gate="none", eta=10.0, adaptive_clip=True), [0.0] * 4, rows, batch)
        # Deviations 7.07 and 0.707, median 3.89: the first clip stays, the other is 0.2 x 0.707 / 3.89.
        close(values[:, 0], [0.2, 0.0, 0.2 * 2 / 11, 0.0])


class TestAnswers:
    def test_the_thought_keeps_its_advantage(self) -> None:
        rows = [turn("a", 0, 3, answer_start=2), turn("a", 1, 3, answer_start=3), turn("b", 0, 3)]
        batch = batch_of(rows, [[0.1] * 3] * 3).replace(advantages=torch.tensor([1.0, 1.0, -1.0]))
        scores = Scores(batch.part("old_logprobs"))
        serl = SERL(warmdown_steps=0).token_advantages(batch, scores, 1).values
        # exp(0.1) = 1.10517 at lambda 1/2, on the answer; a thought that has not ended, or is not known, has none.
        close(serl, [[1.0, 1.0, 1.052585], [1.0] * 3, [-1.0] * 3])
        step = StepOPSD(warmdown_steps=0, shaped_tokens="all").token_advantages(batch, scores, 1).values
        # 2 sigmoid(0.1) = 1.04996, and 2 sigmoid(-0.1) = 0.95004 where the advantage is negative.
        close(step, [[1.02498] * 3, [1.02498] * 3, [-0.97502] * 3])
        with pytest.raises(InvalidOption, match="no row knows where that ends"):
            SERL().token_advantages(replace(batch, answer_start=None), scores, 1)

    def test_it_warms_down_in_fifty_steps(self) -> None:
        rows = [turn("a", 0, answer_start=0)]
        batch = batch_of(rows, [[0.1]]).replace(advantages=torch.tensor([1.0]))
        scores = Scores(batch.part("old_logprobs"))
        values = [float(SERL().token_advantages(batch, scores, step).values) for step in (25, 50, 60)]
        assert values == pytest.approx([1 + 0.25 * 0.10517, 1.0, 1.0], abs=1e-5)


@pytest.mark.parametrize("name", SHAPERS)
def test_the_gradient_is_that_of_the_shaped_advantages(name: str) -> None:
    # Logits are a table, so the gradient of log p_y is [v = y] - p_v by row of the table.
    table = torch.randn(8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).float()
    rows = [
        replace(row, prompt_ids=(3,), response_ids=tuple(i % 8 for i in row.response_ids)) for row in random_rows(11)
    ]
    model = lookup_model(table)
    batch = scored_batch(random_rows(11)).replace(sampler_logprobs=None)
    batch = replace(batch, student=make_batch(rows, pad_id=PAD).student)
    scores = score(model, batch.student, batch.mask)
    batch = batch.replace(old_logprobs=scores.logprobs.detach())
    algorithm = make_algorithm(name, suite="alfworld", kl_coef=0.0, aggregation="token-mean")
    if algorithm.shapes_advantages:
        values = algorithm.shape_advantages(batch.part("advantages"), rows, batch, 30).values
        assert not torch.equal(values, batch.part("advantages")[:, None].expand_as(values))
        batch = batch.replace(advantages=values)
    algorithm.loss(batch.weighed("token-mean"), scores, step=30).loss.backward()
    values = algorithm.token_advantages(batch, scores, 30).values.detach()  # type: ignore[attr-defined]
    expected = torch.zeros(8, 8)
    p = table.softmax(dim=-1)
    for i, j in batch.mask.nonzero().tolist():
        ids = (*rows[i].prompt_ids, *rows[i].response_ids)
        before, token = ids[len(rows[i].prompt_ids) - 1 + j], ids[len(rows[i].prompt_ids) + j]
        expected[before] += values[i, j] * p[before]
        expected[before, token] -= values[i, j]
    expected /= int(batch.mask.sum())
    # The head holds table / sqrt(8), and its states are sqrt(8).
    torch.testing.assert_close(model.lm_head.weight.grad.T / 8**0.5, expected, atol=1e-5, rtol=1e-4)
