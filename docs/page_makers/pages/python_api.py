"""Pages of the Python API: the public names of each package, documented by mkdocstrings from their docstrings."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping, Sequence, Set
from functools import cached_property
from types import FunctionType
from typing import NamedTuple

from page_makers.docstrings import introduction, summary
from page_makers.markdown import cell, code, table

__all__ = ["PAGES", "ApiPage", "api_pages", "public_names", "shown", "undocumented"]


class ApiPage(NamedTuple):
    """A page of the Python API.

    Attributes:
        path: of the page, below `reference/api`.
        title: of the page.
        modules: whose `__all__` it documents.
    """

    path: str
    title: str
    modules: Sequence[str]


PAGES = (
    ApiPage("envs", "Environments: sdar_envs", ("sdar_envs",)),
    ApiPage("prompt", "Prompts: sdar_envs.prompt", ("sdar_envs.prompt", "sdar_envs.prompt.templates")),
    ApiPage("tools", "Actions as tools: sdar_envs.tools", ("sdar_envs.tools",)),
    ApiPage("registry", "Ids, tasks, samples: sdar_envs.registry", ("sdar_envs.registry",)),
    ApiPage("errors", "Errors: sdar_envs.errors", ("sdar_envs.errors",)),
    ApiPage(
        "suites",
        "The three suites",
        ("sdar_envs.alfworld.env", "sdar_envs.webshop.env", "sdar_envs.search_qa.env"),
    ),
    ApiPage(
        "retrieval",
        "Search engines: sdar_envs.search_qa.retrieval",
        (
            "sdar_envs.search_qa.retrieval.retriever",
            "sdar_envs.search_qa.retrieval.index",
            "sdar_envs.search_qa.retrieval.client",
            "sdar_envs.search_qa.retrieval.parallel",
            "sdar_envs.search_qa.retrieval.recall",
            "sdar_envs.search_qa.retrieval.engines.vectors",
            "sdar_envs.search_qa.retrieval.engines.hybrid",
        ),
    ),
    ApiPage("skills", "Skills: sdar_skills", ("sdar_skills",)),
    ApiPage("agents", "Agents, policies, rollouts: sdar_agents", ("sdar_agents",)),
    ApiPage("engines", "Inference engines: sdar_agents.engines", ("sdar_agents.engines",)),
    ApiPage("rewards", "Reward functions: sdar_agents.rollout.rewards", ("sdar_agents.rollout.rewards",)),
    ApiPage(
        "algorithms",
        "Methods and losses: sdar_agents.algorithms",
        (
            "sdar_agents.algorithms",
            "sdar_agents.algorithms.losses",
            "sdar_agents.algorithms.advantages",
            "sdar_agents.algorithms.gap",
        ),
    ),
    ApiPage("scoring", "Batches and log-probabilities: sdar_agents.scoring", ("sdar_agents.scoring.batch",)),
    ApiPage(
        "training",
        "Training: sdar_agents.training, sdar_agents.sft",
        (
            "sdar_agents.training.config",
            "sdar_agents.training.trainer",
            "sdar_agents.sft.demonstrations",
            "sdar_agents.sft.warm_start",
            "sdar_agents.sft.tiny",
        ),
    ),
    ApiPage(
        "evaluation",
        "Evaluation: sdar_benchmarks.evaluation",
        ("sdar_benchmarks.evaluation.evaluate", "sdar_benchmarks.evaluation.panels", "sdar_benchmarks.records.runs"),
    ),
    ApiPage(
        "statistics",
        "Statistics: sdar_benchmarks.analysis",
        ("sdar_benchmarks.analysis.statistics", "sdar_benchmarks.analysis.compare"),
    ),
)
"""The pages. A public name is one in the `__all__` of a module that a page has."""


def public_names(module: str) -> list[str]:
    """Return the names in the `__all__` of a module, sorted."""
    return sorted(importlib.import_module(module).__all__)


def undocumented(pages: Sequence[ApiPage] = PAGES) -> list[str]:
    """Return the public classes, their public methods, and the functions of pages that have no docstring."""
    missing = []
    for page in pages:
        for module in page.modules:
            for name in public_names(module):
                owner = getattr(importlib.import_module(module), name)
                if inspect.isclass(owner):
                    missing += [f"{module}.{name}"] * (not _says(owner))
                    missing += [f"{module}.{name}.{method}" for method in _undocumented_methods(owner)]
                elif inspect.isfunction(owner) and not inspect.getdoc(owner):
                    missing.append(f"{module}.{name}")
    return missing


def _says(owner: type) -> bool:
    """Whether a class has a docstring of its own; that of a dataclass or named tuple without one is its signature."""
    text = owner.__doc__ or ""
    return bool(text) and not text.startswith(f"{owner.__name__}(")


def _undocumented_methods(owner: type) -> list[str]:
    """Return the public methods and properties that a class defines, and neither it nor a base class explains."""
    return [
        name
        for name, member in vars(owner).items()
        if not name.startswith("_")
        and isinstance(member, (FunctionType, classmethod, staticmethod, property, cached_property))
        and not inspect.getdoc(getattr(owner, name) if not isinstance(member, cached_property) else member)
    ]


def api_pages() -> Iterator[tuple[str, str]]:
    """Yield the path and the Markdown of each page, the index first."""
    rows = [
        (f"[{page.title}]({page.path}.md)", cell(summary(importlib.import_module(page.modules[0])))) for page in PAGES
    ]
    yield (
        "reference/api/index.md",
        "# Python API\n\nWhat these pages list is public: it changes with an entry in the changelog. Modules and "
        "names that "
        "they do not list may change at any time.\n\n" + table(("page", "what it has"), rows) + "\n",
    )
    documented: dict[str, str] = {}
    for page in PAGES:
        yield f"reference/api/{page.path}.md", _page(page, documented)


def _page(page: ApiPage, documented: dict[str, str]) -> str:
    """Return a page; a name that an earlier page has documented is linked."""
    parts = [f"# {page.title}\n"]
    for module in page.modules:
        imported = importlib.import_module(module)
        if len(page.modules) > 1:
            parts.append(f"## {module}\n")
        parts.append(f"{introduction(imported)}\n")
        level = 2 if len(page.modules) == 1 else 3
        elsewhere, plain = [], []
        for name in public_names(module):
            owner = getattr(imported, name)
            if not (inspect.isclass(owner) or inspect.isfunction(owner)):
                plain.append((code(name), code(shown(owner))))
                continue
            home = _home(owner, module, name)
            if documented.setdefault(home, page.path) != page.path:
                elsewhere.append(f"[`{name}`]({documented[home]}.md#{home})")
            else:
                parts.append(f"::: {home}\n    options:\n      heading_level: {level}\n")
        if plain:
            parts += [f"{'#' * level} Constants and types\n", table(("name", "value"), plain), ""]
        if elsewhere:
            parts.append(f"On other pages: {', '.join(elsewhere)}.\n")
    return "\n".join(parts)


def _home(owner: object, module: str, name: str) -> str:
    """Return the path by which a name is documented: where it is defined, which is what cross-references use."""
    home = getattr(owner, "__module__", module)
    defined = getattr(importlib.import_module(home), name, None) if home.startswith("sdar_") else None
    return f"{home}.{name}" if defined is owner else f"{module}.{name}"


def shown(value: object) -> str:
    """Return a constant as it is shown: at most 200 characters, classes by their names, sets in a fixed order."""
    text = _written(value)
    return text if len(text) <= 200 else f"{text[:199]}…"


def _written(value: object) -> str:
    if inspect.isclass(value):
        return value.__name__
    if type(value).__module__ == "typing":
        return str(value).replace("typing.", "")
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_written(key)}: {_written(held)}" for key, held in value.items()) + "}"
    if isinstance(value, Set):
        return "{" + ", ".join(sorted(map(_written, value))) + "}"
    if type(value) is tuple:
        return "(" + ", ".join(map(_written, value)) + ("," if len(value) == 1 else "") + ")"
    return repr(value)
