"""Agents that play text environments, policies that complete their prompts, and the reference trainer.

Two protocols, each in a plain and an asynchronous form: an *agent* plays an episode (`Agent`, `AsyncAgent`), a *policy*
(inference engine) completes prompts (`Policy`, `AsyncPolicy`).

- Agents: `make_agent` (scripted, `AGENTS`), `open_agent` (all, for evaluation), `ChatAgent`, which asks a policy.
- Policies: `TransformersPolicy`, `EndpointPolicy`, `ScriptedPolicy`, `make_engine`; `Request`, `Sampling`,
  `Completion`.
- Rollouts: `Rollout`, `RolloutSettings`, `SkillPrompts`; their `Trajectory`, of `Turn`s; `make_rows` for training rows.
- Training: `load_config` and `Trainer`; `Learner` updates a model alone; `make_algorithm`, and `sdar_agents.algorithms`
  for the methods and their losses; `check_algorithm` tests a method of your own.
- Fine-tuning: `sdar_agents.sft`.

Importing this package loads no torch; the names of the trainer do, when they are first used.
"""

from typing import TYPE_CHECKING, Any

from sdar_agents.baselines.scripted import (
    AGENTS,
    Agent,
    DefaultAgent,
    ExplorerAgent,
    OracleAgent,
    QuestionAsQueryAgent,
    RandomAgent,
    RuleAgent,
    default_agent,
    make_agent,
)
from sdar_agents.engines.policy import AsyncPolicy, Policy, Request, Sampling, Situation
from sdar_agents.engines.registry import make_engine
from sdar_agents.engines.scripted import ScriptedPolicy
from sdar_agents.engines.servers.endpoint import EndpointPolicy
from sdar_agents.players.agent import AsyncAgent, Decision, in_thread
from sdar_agents.players.chat import ChatAgent
from sdar_agents.players.pool import AgentPool
from sdar_agents.players.registry import AGENT_NAMES, open_agent
from sdar_agents.types import Completion, EpisodeStopReason, Row, StopReason, Trajectory, Turn, make_rows
from sdar_envs.importing import import_extra

if TYPE_CHECKING:
    from sdar_agents.algorithms import make_algorithm
    from sdar_agents.engines.transformers import TransformersPolicy, load_model
    from sdar_agents.learner import Learner, LearnerSettings, check_algorithm
    from sdar_agents.rollout.rollout import Rollout, RolloutSettings
    from sdar_agents.skill_use.prompts import SkillPrompts
    from sdar_agents.training.config import TrainConfig, load_config
    from sdar_agents.training.trainer import Trainer

__all__ = [
    "AGENTS",
    "AGENT_NAMES",
    "Agent",
    "AgentPool",
    "AsyncAgent",
    "AsyncPolicy",
    "ChatAgent",
    "Completion",
    "Decision",
    "DefaultAgent",
    "EndpointPolicy",
    "EpisodeStopReason",
    "ExplorerAgent",
    "Learner",
    "LearnerSettings",
    "OracleAgent",
    "Policy",
    "QuestionAsQueryAgent",
    "RandomAgent",
    "Request",
    "Rollout",
    "RolloutSettings",
    "Row",
    "RuleAgent",
    "Sampling",
    "ScriptedPolicy",
    "Situation",
    "SkillPrompts",
    "StopReason",
    "TrainConfig",
    "Trainer",
    "Trajectory",
    "TransformersPolicy",
    "Turn",
    "check_algorithm",
    "default_agent",
    "in_thread",
    "load_config",
    "load_model",
    "make_agent",
    "make_algorithm",
    "make_engine",
    "make_rows",
    "open_agent",
]

_LAZY = {
    "Learner": "sdar_agents.learner",
    "LearnerSettings": "sdar_agents.learner",
    "Rollout": "sdar_agents.rollout.rollout",
    "RolloutSettings": "sdar_agents.rollout.rollout",
    "SkillPrompts": "sdar_agents.skill_use.prompts",
    "TrainConfig": "sdar_agents.training.config",
    "Trainer": "sdar_agents.training.trainer",
    "TransformersPolicy": "sdar_agents.engines.transformers",
    "check_algorithm": "sdar_agents.learner",
    "load_config": "sdar_agents.training.config",
    "load_model": "sdar_agents.engines.transformers",
    "make_algorithm": "sdar_agents.algorithms",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_extra(_LAZY[name], extra="train", purpose=f"sdar_agents.{name}")
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
