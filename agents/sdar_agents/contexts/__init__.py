"""Contexts of the teacher that are made after play, from finished groups of episodes and their rewards.

The skill library (`library`) is the context before play: skills are chosen when an episode begins, and rollouts put
them in the teacher's prompt. A `Context` is made afterwards: it sees whole groups, may ask a model, and returns what
the teacher reads in each turn (`View`). The trainer inserts that into the turn's own prompt, within the teacher's token
limit, and scores the student's tokens under it.

    sdar train --config NAME --method sdar --context sibling
    sdar train --config NAME --method sdar --context my_contexts:Mine
"""

from sdar_agents.contexts.base import Ask, Context, Cost, Groups, Place, Review, View, Views
from sdar_agents.contexts.registry import CONTEXTS, make_context

__all__ = ["CONTEXTS", "Ask", "Context", "Cost", "Groups", "Place", "Review", "View", "Views", "make_context"]
