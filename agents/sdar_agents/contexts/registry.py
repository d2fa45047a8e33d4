"""Contexts by name, and `module:Class` for one of your own."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from sdar_agents.contexts.base import Context
from sdar_envs.errors import InvalidOption, UnknownName, did_you_mean
from sdar_envs.importing import import_named, is_import_path

__all__ = ["CONTEXTS", "LIBRARY", "find_context", "make_context"]

LIBRARY = "library"
"""The context before play: the skills of the library. It is no `Context`; rollouts show the skills."""

CONTEXTS: Mapping[str, str] = MappingProxyType(
    {
        "sibling": "sdar_agents.contexts.sibling:SuccessfulSibling",
        "future": "sdar_agents.contexts.future:FutureObservations",
        "future_blanked": "sdar_agents.contexts.future:BlankedFuture",
        "analyst": "sdar_agents.contexts.analyst:EpisodeAnalyst",
        "reflection": "sdar_agents.contexts.reflection:GroupReflection",
        "expert": "sdar_agents.contexts.expert:ExpertPlan",
        "pairs": "sdar_agents.contexts.pairs:SiblingPairs",
    }
)
"""The contexts after play: name -> `module:Class`, imported when it is made."""


def find_context(name: str) -> type[Context]:
    """Return the class of a context after play.

    Args:
        name: one of `CONTEXTS`, or `module:Class`.

    Raises:
        UnknownName: there is no such context, or the class is none.
    """
    if is_import_path(name):
        found = import_named(name, what="a context")
    elif name in CONTEXTS:
        module, _, attribute = CONTEXTS[name].partition(":")
        found = getattr(importlib.import_module(module), attribute)
    else:
        known = (LIBRARY, *CONTEXTS)
        raise UnknownName(
            f"no context {name!r}; there is {', '.join(known)}, or module:Class of your own.{did_you_mean(name, known)}"
        )
    if not isinstance(found, type):
        raise UnknownName(f"the context {name!r} is a {type(found).__name__}; wanted a class.")
    if not callable(getattr(found, "review", None)):
        raise UnknownName(f"the class {name!r} is no context: it has no method review(groups, ask, *, step, seed).")
    states = [member for member in ("state_dict", "load_state_dict") if hasattr(found, member)]
    if len(states) == 1:
        raise UnknownName(
            f"the class {name!r} has {states[0]} alone; wanted state_dict and load_state_dict, or neither."
        )
    return found


def make_context(name: str, options: Mapping[str, Any], given: Mapping[str, Any] = MappingProxyType({})) -> Context:
    """Make a context after play.

    Args:
        name: as for `find_context`.
        options: keyword arguments of the class.
        given: what the trainer has for classes that take an argument of that name: `make_env`, `decode`.

    Raises:
        UnknownName: there is no such context, or it has no such option.
        InvalidOption: an option has a wrong value or is missing.
    """
    kind = find_context(name)
    parameters = inspect.signature(kind).parameters
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    own = [option for option in parameters if option not in given]
    for option in options:
        if option in given or not (option in parameters or takes_any):
            what = f"it has {', '.join(own)}" if own else "it has none"
            raise UnknownName(f"the context {name!r} has no option {option!r}; {what}.{did_you_mean(option, own)}")
    filled = {argument: value for argument, value in given.items() if argument in parameters}
    try:
        return kind(**filled, **options)
    except TypeError as error:
        raise InvalidOption(
            f"the context {name!r} cannot be made with the options {', '.join(options) or '(none)'}: {error}."
        ) from error
