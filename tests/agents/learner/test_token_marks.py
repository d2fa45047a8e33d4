"""Token marks: gap and gate of every token, as the update took them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.tiny_models import PAD, random_rows, tiny_model

from sdar_agents.algorithms import make_algorithm
from sdar_agents.learner import Learner, LearnerSettings, TokenSignals, token_marks
from sdar_agents.scoring.batch import make_batch
from sdar_agents.scoring.logprobs import score
from sdar_envs.errors import InvalidOption

ROWS = [
    replace(row, teacher_prompt_ids=None if i == 4 else row.teacher_prompt_ids, is_truncated=i == 7)
    for i, row in enumerate(random_rows(12))
]


def signals(method: str, **settings: Any) -> TokenSignals:
    learner_settings = LearnerSettings(**({"lr": 0.0, "max_tokens": 60, "mini_batches": 3} | settings))
    learner = Learner(tiny_model(), make_algorithm(method, suite="alfworld"), learner_settings, pad_id=PAD)
    kept = learner.learn(ROWS, 1, keep_signals=True).signals
    assert kept is not None
    return kept


def gap_by_hand() -> torch.Tensor:
    batch = make_batch(ROWS, pad_id=PAD)
    assert batch.teacher is not None
    model = tiny_model()
    with torch.no_grad():
        return score(model, batch.teacher, batch.mask).logprobs - score(model, batch.student, batch.mask).logprobs


@pytest.mark.parametrize("method", ["sdar", "grpo_opsd", "skill_sd", "rlsd"])
def test_signals_are_the_gap_and_the_gate_of_every_token(method: str) -> None:
    kept, expected = signals(method, mask_truncated=True), gap_by_hand()
    for i, row in enumerate(ROWS):
        # Row 4 has no teacher, and row 7 ran into the token limit, so it is not trained.
        if i in (4, 7):
            assert kept.gaps[i].isnan().all()
            continue
        length = len(row.response_ids)
        torch.testing.assert_close(kept.gaps[i, :length], expected[i, :length], atol=1e-5, rtol=0)
        assert kept.gaps[i, length:].isnan().all()
    gates = torch.sigmoid(5 * kept.gaps) if method == "sdar" else torch.full_like(kept.gaps, math.nan)
    torch.testing.assert_close(kept.gates, gates, atol=1e-5, rtol=0, equal_nan=True)


def test_signals_are_those_of_the_first_epoch() -> None:
    once, twice = (signals("sdar", lr=0.05, mini_batches=1, epochs=epochs) for epochs in (1, 2))
    torch.testing.assert_close(once.gaps, twice.gaps, equal_nan=True, atol=1e-5, rtol=0)


def test_a_method_without_a_teacher_has_no_signals_and_nobody_keeps_what_nobody_asked_for() -> None:
    assert all(part.isnan().all() for part in signals("grpo"))
    learner = Learner(tiny_model(), make_algorithm("sdar", suite="alfworld"), LearnerSettings(), pad_id=PAD)
    assert learner.learn(ROWS, 1).signals is None


def test_marks_are_one_dictionary_per_response_token_and_json() -> None:
    kept = signals("sdar")
    marks = token_marks(ROWS, kept, lambda token: f"<{token}>")
    assert [[mark["text"] for mark in row] for row in marks] == [[f"<{t}>" for t in row.response_ids] for row in ROWS]
    assert marks[0][1] == {
        "text": f"<{ROWS[0].response_ids[1]}>",
        "gap": float(kept.gaps[0, 1]),
        "gate": float(kept.gates[0, 1]),
    }
    assert all(set(mark) == {"text"} for mark in marks[4])
    assert json.loads(json.dumps(marks, allow_nan=False)) == marks
    with pytest.raises(InvalidOption, match="got 12, expected 2"):
        token_marks(ROWS[:2], kept, str)
