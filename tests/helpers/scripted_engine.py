"""An engine that plays by scripts: a training step has solved and unsolved episodes. It answers questions too."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from functools import partial
from typing import Any

from sdar_agents import OracleAgent, RandomAgent
from sdar_agents.engines.policy import Request, Sampling
from sdar_agents.engines.scripted import ScriptedPolicy
from sdar_agents.types import Completion

ANSWER = json.dumps(
    {
        "episode_skill": "Look before you take.",
        "step_skills": {"1": "Open what is closed."},
        "points": ["It took the right thing."],
        "do": ["take it"],
        "avoid": ["waiting"],
    }
)
"""What it answers to a question, whichever it is."""


class HalfOracle(ScriptedPolicy):
    """In every second environment the oracle plays, in the others chance. Completions have tokens without log-probs."""

    def __init__(self, model: Any, tokenizer: Any, **settings: Any) -> None:
        agents = (kind() for kind in itertools.cycle([OracleAgent, RandomAgent]))
        super().__init__(partial(next, agents), reasoning="So.", tokenizer=tokenizer)
        self.context_length = model.config.max_position_embeddings

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        if not requests or requests[0].situation is not None:
            return super().generate(requests, sampling)
        return [Completion(self.encode(ANSWER), None, ANSWER, "eos") for _ in requests]
