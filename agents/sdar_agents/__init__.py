"""Agents that play text environments."""

from sdar_agents.baselines.scripted import (
    AGENTS,
    Agent,
    ExplorerAgent,
    OracleAgent,
    QuestionAsQueryAgent,
    RandomAgent,
    RuleAgent,
    default_agent,
    make_agent,
)
from sdar_agents.players.players import AsyncAgent, Decision, Player, in_thread
from sdar_agents.players.registry import AGENT_NAMES, Entrant, open_agent

__all__ = [
    "AGENTS",
    "AGENT_NAMES",
    "Agent",
    "AsyncAgent",
    "Decision",
    "Entrant",
    "ExplorerAgent",
    "OracleAgent",
    "Player",
    "QuestionAsQueryAgent",
    "RandomAgent",
    "RuleAgent",
    "default_agent",
    "in_thread",
    "make_agent",
    "open_agent",
]
