"""Inference engines by name: `transformers`, `vllm`, and `module:Class` for one of your own."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from sdar_agents.engines.policy import Policy
from sdar_envs.errors import InvalidOption, UnknownName, did_you_mean
from sdar_envs.importing import import_named, is_import_path

__all__ = ["ENGINES", "make_engine"]

ENGINES: Mapping[str, str] = MappingProxyType(
    {
        "transformers": "sdar_agents.engines.transformers:TransformersPolicy",
        "vllm": "sdar_agents.engines.servers.vllm:VllmPolicy",
    }
)
"""The built-in engines: name -> `module:Class`, imported when it is made."""


def make_engine(name: str, model: Any, tokenizer: Any, settings: Mapping[str, Any] = MappingProxyType({})) -> Policy:
    """Make an inference engine by name.

    Args:
        name: one of `ENGINES`, or `module:Class` for a class with the members of `Policy`, made as
            `Class(model, tokenizer, **settings)`.
        model: a Hugging Face causal language model. In training it is the model that is being trained: its weights
            change between calls of `generate`.
        tokenizer: its tokenizer.
        settings: keyword arguments of the class, such as `template_options`.

    Raises:
        UnknownName: there is no such engine, or the class is none.
        InvalidOption: the class cannot be made with these settings.
    """
    if is_import_path(name):
        made = import_named(name, what="an engine")
    elif name in ENGINES:
        module, _, attribute = ENGINES[name].partition(":")
        made = getattr(importlib.import_module(module), attribute)
    else:
        raise UnknownName(
            f"no engine {name!r}; the engines are {', '.join(ENGINES)}, and module:Class for your own."
            f"{did_you_mean(name, ENGINES)}"
        )
    if not isinstance(made, type):
        raise UnknownName(f"the engine {name!r} is a {type(made).__name__}; wanted a class.")
    try:
        engine: Policy = made(model, tokenizer, **settings)
    except TypeError as error:
        raise InvalidOption(
            f"the engine {name!r} cannot be made with a model, a tokenizer and the settings "
            f"{', '.join(settings) or '(none)'}: {error}."
        ) from error
    missing = [member for member in ("context_length", "render", "encode", "generate") if not hasattr(engine, member)]
    if missing:
        raise UnknownName(
            f"the class {name!r} is no engine, it lacks {', '.join(missing)}; wanted the members of sdar_agents.Policy."
        )
    return engine
