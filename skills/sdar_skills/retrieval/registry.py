"""Retrievers by name: the built-in strategies, registered ones, and a user's own as `module:name`.

retriever = make_retriever("task_type", Library.load())
retriever.retrieve(task, k=6, token_budget=None, rng=random.Random(0))
retriever = make_retriever("my_module:MyRetriever", Library.load(), depth=2)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any

from sdar_envs.errors import InvalidOption, UnknownName, did_you_mean
from sdar_envs.importing import import_named, is_import_path
from sdar_skills.library.library import Library
from sdar_skills.library.skill import Retriever

__all__ = ["make_retriever", "register_retriever", "retriever_names", "retriever_settings"]

_FACTORIES: dict[str, str | Callable[..., Retriever]] = {
    "task_type": "strategies:TaskTypeRetriever",
    "keyword": "strategies:KeywordRetriever",
    "bm25": "strategies:BM25Retriever",
    "embedding": "strategies:EmbeddingRetriever",
    "random": "strategies:RandomRetriever",
    "full": "strategies:FullRetriever",
    "none": "strategies:NoneRetriever",
    "home": "homes:HomeRetriever",
    "ucb": "bandits:UcbRetriever",
    "thompson": "bandits:ThompsonRetriever",
    "hybrid": "bandits:HybridRetriever",
}
"""Factories by name; those of this folder by module and class, imported when they are made."""


def retriever_names() -> tuple[str, ...]:
    """Return the names of the built-in and registered strategies."""
    return tuple(_FACTORIES)


def register_retriever(name: str, factory: Callable[..., Retriever]) -> None:
    """Register a retriever under a name of its own.

    Args:
        name: the name.
        factory: class or function that takes the library first, then settings by name.

    Raises:
        InvalidOption: another retriever has the name.
    """
    if _FACTORIES.setdefault(name, factory) is not factory:
        raise InvalidOption(f"the strategy {name!r} is there already; wanted a new name.")


def retriever_settings(name: str) -> tuple[str, ...]:
    """Return the names of the settings that a retriever takes besides the library, such as `count_tokens`.

    Raises:
        UnknownName: there is no such retriever.
        InvalidOption: the object of that name is no class or function that takes a library.
    """
    parameters = _parameters(name, _factory(name))
    return tuple(parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD)


def make_retriever(name: str, library: Library, **settings: Any) -> Retriever:
    """Make a retriever by name.

    Args:
        name: one of `retriever_names()`; or `module:name` of a class or function of the user's own, which takes the
            library first, then settings by name, and makes an object with the method `retrieve` of `Retriever`.
        library: the skills to choose from.
        **settings: of the retriever, such as `count_tokens` or `encoder`.

    Raises:
        UnknownName: there is no such retriever, or it has no such setting.
        InvalidOption: a required setting is missing, or what `module:name` names makes no retriever.
    """
    factory = _factory(name)
    parameters = _parameters(name, factory)
    known = {parameter.name: parameter for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD}
    takes_any = len(known) < len(parameters)
    for setting in settings:
        if setting not in known and not takes_any:
            raise UnknownName(
                f"the strategy {name!r} has no setting {setting!r}; its settings are {', '.join(known) or 'none'}."
                f"{did_you_mean(setting, known)}"
            )
    for setting, parameter in known.items():
        if parameter.default is parameter.empty and setting not in settings:
            raise InvalidOption(f"the strategy {name!r} needs {setting}: pass {setting}=... too.")
    return _checked(name, factory(library, **settings))


def _factory(name: str) -> Callable[..., Any]:
    found: Any = _FACTORIES.get(name)
    if isinstance(found, str):
        module, _, attribute = found.partition(":")
        found = getattr(import_module(f"sdar_skills.retrieval.{module}"), attribute)
    elif found is None:
        if not is_import_path(name):
            raise UnknownName(
                f"no strategy {name!r:.200}; the strategies are {', '.join(_FACTORIES)}, or module:name of a class of "
                f"your own.{did_you_mean(name, _FACTORIES)}"
            )
        found = import_named(name, what="a retriever")
        if not callable(found):
            raise InvalidOption(
                f"{name!r} is an object of {type(found).__name__}; wanted a class or a function that takes the library "
                "and makes a retriever."
            )
    factory: Callable[..., Any] = found
    return factory


def _parameters(name: str, factory: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return the parameters of a factory that follow the library."""
    try:
        parameters = list(inspect.signature(factory).parameters.values())
    except (TypeError, ValueError):  # builtins such as `dict` have none that Python can tell
        parameters = []
    if not parameters or parameters[0].kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD):
        raise InvalidOption(
            f"{name!r} takes no library; wanted a class or a function whose first argument is the library, such as "
            "def __init__(self, library)."
        )
    # *args is no setting, and takes the library only if it is the first.
    return [parameter for parameter in parameters[1:] if parameter.kind is not parameter.VAR_POSITIONAL]


def _checked(name: str, made: Any) -> Retriever:
    retrieve = getattr(made, "retrieve", None)
    if not callable(retrieve):
        raise InvalidOption(
            f"{name!r} made a {type(made).__name__}, which has no method retrieve; wanted an object with "
            "retrieve(task, k, token_budget, rng)."
        )
    signature = inspect.signature(retrieve)
    try:
        signature.bind("task", 1, None, "rng")
    except TypeError as error:
        raise InvalidOption(
            f"{name!r} made a {type(made).__name__} with retrieve{signature}; wanted retrieve(task, k, token_budget, "
            "rng)."
        ) from error
    retriever: Retriever = made
    return retriever
