"""The five methods with released code against their formulas, written once more in plain Python, on random numbers."""

import math
import random
from statistics import fmean, pstdev, stdev
from typing import Any

import pytest
import torch
from helpers.tiny_models import PAD

from sdar_agents.algorithms import ADRS, GRSD, OPID, UCOB, AgentOPSD
from sdar_agents.scoring.batch import Batch, make_batch
from sdar_agents.scoring.head import Scores
from sdar_agents.types import Row

Numbers = list[list[float]]


class Step:
    """Rows of 2 groups of 3 episodes of 1 to 4 turns with random lengths, and random log-probabilities of them."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        self.rows: list[Row] = []
        for episode in range(6):
            won = rng.random() < 0.5
            for turn in range(rng.randint(1, 4)):
                self.rows.append(
                    Row(
                        prompt_ids=(1,),
                        response_ids=(2,) * rng.randint(1, 6),
                        group_id=f"g{episode // 3}",
                        episode_id=f"e{episode}",
                        turn_index=turn,
                        episode_return=10.0 * won,
                        invalid_penalty=rng.choice((0.0, 0.1)),
                        teacher_prompt_ids=(3,),
                        is_success=won,
                        more_teacher_prompts=() if rng.random() < 0.5 else ((4,),),
                    )
                )
        lengths = [len(row.response_ids) for row in self.rows]

        def draw(mean: float, spread: float) -> Numbers:
            return [[rng.gauss(mean, spread) for _ in range(n)] for n in lengths]

        self.old, self.teacher, self.second = draw(-1, 0.5), draw(-1, 0.6), draw(-1, 0.6)
        self.gaps = [[t - o for t, o in zip(*pair, strict=True)] for pair in zip(self.teacher, self.old, strict=True)]
        self.advantages = [rng.gauss(0, 1) for _ in self.rows]

    def batch(self) -> Batch:
        batch = make_batch(self.rows, pad_id=PAD)

        def padded(numbers: Numbers) -> torch.Tensor:
            wide = torch.zeros(batch.mask.shape)
            for i, row in enumerate(numbers):
                wide[i, : len(row)] = torch.tensor(row)
            return wide

        views = tuple(type(view)(view.sequences, view.is_there, padded(self.second)) for view in batch.more_teachers)
        return batch.replace(
            old_logprobs=padded(self.old),
            teacher_logprobs=padded(self.teacher),
            more_teachers=views,
            advantages=torch.tensor(self.advantages),
        )

    def members(self, name: str) -> list[list[int]]:
        names = dict.fromkeys(getattr(row, name) for row in self.rows)
        return [[i for i, row in enumerate(self.rows) if getattr(row, name) == each] for each in names]

    def check(self, algorithm: Any, expected: Numbers) -> None:
        batch = self.batch()
        if algorithm.shapes_advantages:
            got = algorithm.shape_advantages(batch.part("advantages"), self.rows, batch, 30).values
        else:
            got = algorithm.token_advantages(batch, Scores(batch.part("old_logprobs")), 30).values
        for values, wanted in zip(got.tolist(), expected, strict=True):
            assert values[: len(wanted)] == pytest.approx(wanted, abs=2e-5)


def clip(x: float, low: float, high: float) -> float:
    return min(max(x, low), high)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def sign(x: float) -> int:
    return (x > 0) - (x < 0)


@pytest.fixture(params=range(4))
def step(request: pytest.FixtureRequest) -> Step:
    return Step(request.param)


def test_opid(step: Step) -> None:
    expected = []
    for i, row in enumerate(step.rows):
        own = bool(row.more_teacher_prompts)
        second = [t - o for t, o in zip(step.second[i], step.old[i], strict=True)]
        pairs = zip(step.gaps[i], second, strict=True)
        expected.append([step.advantages[i] + (0.2 * s if own else 0.1 * e) for e, s in pairs])
    step.check(OPID(episode_coef=0.1, step_coef=0.2), expected)


def standing(step: Step, group: list[int], scale: float | None) -> float:
    firsts = [step.rows[i] for i in group if step.rows[i].turn_index == 0]
    return clip(fmean(row.is_success if scale is None else row.score / scale for row in firsts), 1e-4, 1 - 1e-4)


def revisions(prior: float, evidence: list[float]) -> list[float]:
    logit, before, found = math.log(prior / (1 - prior)), prior, []
    for e in evidence:
        logit += e
        belief = clip(sigmoid(logit), 1e-6, 1 - 1e-6)
        found.append(belief - before)
        before = belief
    return found


@pytest.mark.parametrize("scale", [None, 1.0])
def test_agentopsd(step: Step, scale: float | None) -> None:
    priors = {step.rows[i].group_id: standing(step, group, scale) for group in step.members("group_id") for i in group}
    turns: Numbers = [[] for _ in step.rows]
    for episode in step.members("episode_id"):
        found = revisions(priors[step.rows[episode[0]].group_id], [sum(step.gaps[i]) for i in episode])
        for i, q in zip(episode, found, strict=True):
            z = (q - fmean(found)) / (pstdev(found) + 1e-6)
            a = step.advantages[i]
            turns[i] = [a * (0.5 + 0.5 * clip(1 + 0.2 * sign(a) * z, 0.8, 1.2))] * len(step.gaps[i])
    step.check(AgentOPSD(return_scale=scale), turns)
    tokens = []
    for i, a in enumerate(step.advantages):
        found = revisions(priors[step.rows[i].group_id], step.gaps[i])
        deviation = math.sqrt(pstdev(found) ** 2 + 1e-6) + 1e-6
        zs = [(q - fmean(found)) / deviation for q in found]
        tokens.append([a * (0.5 + 0.5 * clip(1 + 0.2 * sign(a) * z, 0.8, 1.2)) for z in zs])
    step.check(AgentOPSD(return_scale=scale, granularity="token"), tokens)


@pytest.mark.parametrize("g_max", [0.2, 3.0])
def test_grsd(step: Step, g_max: float) -> None:
    sizes = [math.expm1(sign(a) * fmean(d)) for a, d in zip(step.advantages, step.gaps, strict=True)]
    expected: Numbers = [[] for _ in step.rows]
    for group in step.members("group_id"):
        unit = fmean(abs(sizes[i]) for i in group) + 1e-6
        for i in group:
            factor = max(1 + 0.5 * clip(sizes[i] / unit, -g_max, g_max), 0.1)
            expected[i] = [step.advantages[i] * factor] * len(step.gaps[i])
    step.check(GRSD(g_max=g_max), expected)


@pytest.mark.parametrize("signal", ["teacher", "gap"])
def test_adrs(step: Step, signal: Any) -> None:
    source = step.teacher if signal == "teacher" else step.gaps
    rows = [[(t - fmean(row)) / (pstdev(row) + 1e-6) for t in row] for row in source]
    means = [fmean(row) for row in source]
    expected: Numbers = [[] for _ in step.rows]
    for group in step.members("group_id"):
        scores = [step.rows[i].score for i in group]
        weights = [sigmoid(means[i] - fmean(means)) for i in group]
        returns = [step.rows[i].episode_return for i in group]
        value = sum(w * r for w, r in zip(weights, returns, strict=True)) / sum(weights)
        value -= sum((1 - w) * r for w, r in zip(weights, returns, strict=True)) / sum(1 - w for w in weights)
        flat = [x for i in group for x in rows[i]]
        for i in group:
            if stdev(scores) < 1e-6:
                expected[i] = [step.advantages[i]] * len(rows[i])
                continue
            terms = [2.0 * sigmoid(2 * value) * (x - fmean(flat)) / (pstdev(flat) + 1e-6) for x in rows[i]]
            expected[i] = [step.advantages[i] + clip(term, -0.2, 0.2) for term in terms]
    step.check(ADRS(eta=2.0, signal=signal), expected)


def test_ucob(step: Step) -> None:
    # Its loss is the mean over the tokens with a teacher of w g d, with d given here.
    batch = step.batch().weighed("token-mean")
    divergences = batch.part("teacher_logprobs").abs()
    algorithm = UCOB(pg_coef=0.0, kl_coef=0.0, distill_coef=0.1)
    output = algorithm.loss(batch, Scores(batch.part("old_logprobs"), None, divergences))
    terms = [
        sigmoid(5 * gap) * abs(t)
        for gaps, teacher in zip(step.gaps, step.teacher, strict=True)
        for gap, t in zip(gaps, teacher, strict=True)
    ]
    assert output.loss.item() == pytest.approx(0.1 * fmean(terms), rel=1e-5)
