"""Agents that play text environments."""

from sdar_agents.scripted import (
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

__all__ = [
    "AGENTS",
    "Agent",
    "ExplorerAgent",
    "OracleAgent",
    "QuestionAsQueryAgent",
    "RandomAgent",
    "RuleAgent",
    "default_agent",
    "make_agent",
]
