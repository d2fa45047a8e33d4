"""A training method of one's own: the example, named as module:Class."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.tiny_models import PAD, random_rows, tiny_model

from sdar_agents import check_algorithm
from sdar_agents.algorithms import make_algorithm
from sdar_agents.learner import Learner, LearnerSettings
from sdar_agents.learner.weights import fingerprint
from sdar_agents.scoring.batch import make_batch
from sdar_agents.scoring.metrics import summarise

EXAMPLES = Path(__file__).parents[2] / "examples"
NAME = "own_method:RLOO"


@pytest.fixture(autouse=True)
def in_the_folder_of_the_examples(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(EXAMPLES)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("own_method", None)


def test_an_advantage_is_the_return_minus_the_mean_of_the_others() -> None:
    # Three episodes of one group return 9, 3 and 0; the first has two turns, the second of which is malformed.
    rows = [
        replace(row, group_id="g", episode_id=episode, episode_return=value, invalid_penalty=penalty)
        for row, (episode, value, penalty) in zip(
            random_rows(4), [("a", 9.0, 0.0), ("a", 9.0, 0.1), ("b", 3.0, 0.0), ("c", 0.0, 0.0)], strict=True
        )
    ]
    algorithm = make_algorithm(NAME, suite="alfworld", max_advantage=6.0)
    advantages, metrics = algorithm.advantages(rows, make_batch(rows, pad_id=PAD))
    # 9 - 1.5 = 7.5, clipped at 6; 7.5 - 0.1; 3 - 4.5; 0 - 6.
    assert advantages.tolist() == [6.0, 6.0, -1.5, -6.0]
    assert summarise(metrics) == {"rloo/clipped": 0.75}


def test_a_step_of_training_with_it_moves_the_tiny_model() -> None:
    model = tiny_model()
    algorithm = make_algorithm(NAME, suite="alfworld")
    result = Learner(model, algorithm, LearnerSettings(lr=1e-3), pad_id=PAD).learn(random_rows(12), 1)
    assert fingerprint(model) != fingerprint(tiny_model())
    assert result.metrics["optimizer/updates"] == 1
    assert result.metrics["rloo/clipped"] >= 0
    assert result.metrics["kl/ref"] == 0


def test_it_conforms() -> None:
    report = check_algorithm(NAME)
    assert report.ok, str(report)
    assert report.not_declared == ("off", "bounds")
