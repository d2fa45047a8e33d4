"""Page of the exceptions, read from the source: some are in modules that need an extra."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import NamedTuple

from page_makers.markdown import cell, code, table
from sdar_envs import errors

__all__ = ["ErrorClass", "error_classes", "errors_page"]

_PACKAGES = ("sdar_envs", "sdar_skills", "sdar_agents", "sdar_benchmarks")


class ErrorClass(NamedTuple):
    """An exception.

    Attributes:
        name: of the class.
        module: that defines it.
        bases: names of its base classes.
        summary: first paragraph of its docstring.
    """

    name: str
    module: str
    bases: tuple[str, ...]
    summary: str


def error_classes() -> list[ErrorClass]:
    """Return the public exceptions of all packages that derive from `SdarError`, and that itself."""
    found: list[ErrorClass] = []
    names = set(errors.__all__)
    for package in _PACKAGES:
        root = Path(str(importlib.import_module(package).__file__)).parent
        for path in sorted(root.rglob("*.py")):
            module = ".".join((package, *path.relative_to(root).with_suffix("").parts)).removesuffix(".__init__")
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if not isinstance(node, ast.ClassDef) or node.name.startswith("_"):
                    continue
                bases = tuple(base.id if isinstance(base, ast.Name) else ast.unparse(base) for base in node.bases)
                if names & set(bases) or node.name == errors.SdarError.__name__:
                    names.add(node.name)
                    text = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
                    found.append(ErrorClass(node.name, module, bases, text))
    return found


def errors_page() -> str:
    """Return the page of the exceptions."""
    rows = [
        (code(found.name), ", ".join(map(code, found.bases)), code(found.module), cell(found.summary))
        for found in error_classes()
    ]
    return (
        "# Errors\n\n"
        "Every exception that the packages raise on purpose is an `sdar_envs.errors.SdarError`, and also one of "
        "Python's own classes, so that `except ValueError` works. Its message says what came, what was wanted and "
        "what to do; where a name is misspelt, it names the closest one. On the command line it is one line on "
        "standard error, and the exit status is 2.\n\n"
        "What a model writes is never an error: an environment answers nonsense in words, and the episode goes on."
        "\n\n" + table(("exception", "is a", "module", "meaning"), rows) + "\n"
    )
