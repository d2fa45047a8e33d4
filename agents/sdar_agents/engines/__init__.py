"""Inference engines: policies that complete prompts.

Importing this package loads no torch; `make_engine` does.
"""

from sdar_agents.engines.chat.chat_template import ChatTemplate
from sdar_agents.engines.policy import AsyncPolicy, Policy, Request, Sampling, Situation
from sdar_agents.engines.registry import ENGINES, make_engine

__all__ = ["ENGINES", "AsyncPolicy", "ChatTemplate", "Policy", "Request", "Sampling", "Situation", "make_engine"]
