"""Page of the exceptions, made from the classes and their docstrings."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

from page_makers.docstrings import summary
from page_makers.markdown import cell, code, table
from sdar_envs import errors

__all__ = ["error_classes", "errors_page"]

_PACKAGES = ("sdar_envs", "sdar_skills", "sdar_agents", "sdar_benchmarks")


def error_classes() -> dict[str, type[Exception]]:
    """Return the exceptions of all packages by the module and name that they are imported by."""
    found: dict[str, type[Exception]] = {"sdar_envs.errors.SdarError": errors.SdarError}
    names = set(errors.__all__)
    for package in _PACKAGES:
        root = Path(str(importlib.import_module(package).__file__)).parent
        for path in sorted(root.rglob("*.py")):
            module = ".".join((package, *path.relative_to(root).with_suffix("").parts)).removesuffix(".__init__")
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and _bases(node) & names:
                    names.add(node.name)
                    found[f"{module}.{node.name}"] = getattr(importlib.import_module(module), node.name)
    return found


def errors_page() -> str:
    """Return the page of the exceptions."""
    rows = []
    for path, owner in error_classes().items():
        module, _, name = path.rpartition(".")
        bases = ", ".join(code(base.__name__) for base in owner.__bases__)
        rows.append((code(name), bases, code(module), cell(summary(owner))))
    return (
        "# Errors\n\n"
        "Every exception that the packages raise on purpose is an `sdar_envs.errors.SdarError`, and also one of "
        "Python's own "
        "classes, so that `except ValueError` works. Its message says what came, what was wanted and what to do; "
        "where a "
        "name is misspelt, it names the closest one. On the command line it is one line on standard error, and the "
        "exit "
        "status is 2.\n\n"
        "What a model writes is never an error: an environment answers nonsense in words, and the episode goes on.\n\n"
        + table(("exception", "is a", "module", "meaning"), rows)
        + "\n"
    )


def _bases(node: ast.ClassDef) -> set[str]:
    return {base.id if isinstance(base, ast.Name) else getattr(base, "attr", "") for base in node.bases}
