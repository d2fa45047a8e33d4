"""Imports by name: users' objects as `module:name`, and optional dependencies (extras).

Importing a module runs its code. Whoever reads a file that may name objects as `module:name`, such as a configuration,
says so by `names_from`: each is then told on standard error before it is imported, with the file that names it. What
the user typed needs no telling.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from sdar_envs.errors import MissingExtra, UnknownName, did_you_mean

__all__ = [
    "add_run_directory",
    "add_working_directory",
    "extra_imports",
    "import_extra",
    "import_named",
    "is_import_path",
    "names_from",
    "tell_import",
]

_OWN = frozenset({"sdar_envs", "sdar_skills", "sdar_agents", "sdar_benchmarks"})

_NAMED_BY: dict[str, str] = {}
"""Names that files hold -> the file that was read last."""

_TOLD: set[tuple[str, str]] = set()
"""Names that were told of, with their files."""


def is_import_path(name: object) -> bool:
    """Return whether a name has the form `module:name`."""
    return isinstance(name, str) and ":" in name and "://" not in name


def names_from(content: Any, file: object) -> None:
    """Remember the `module:name` objects that a file names, so that `import_named` tells of them first.

    Objects of these packages are not among them.

    Args:
        content: what was read from the file: mappings and lists of any depth, and texts.
        file: its path.
    """
    rest = [content]
    while rest:
        value = rest.pop()
        if isinstance(value, Mapping):
            rest += value.values()
        elif isinstance(value, (list, tuple)):
            rest += value
        elif is_import_path(value) and value.partition(":")[0].partition(".")[0] not in _OWN:
            _NAMED_BY[value] = str(file)


def tell_import(name: str, *, what: str) -> None:
    """Tell on standard error that an object is imported, if a file names it that was not told of yet.

    Args:
        name: as the file has it.
        what: what it is wanted as, with its article.
    """
    file = _NAMED_BY.get(name)
    if file is not None and (name, file) not in _TOLD:
        _TOLD.add((name, file))
        print(f"importing {what}, {name!r}, which {file!r} names: its code runs here", file=sys.stderr, flush=True)


def import_named(name: str, *, what: str) -> Any:
    """Return the object that `module:name` names, after telling of one that a file names (`names_from`).

    The working directory is searched too, as pytest and uvicorn do: a console script does not look there by itself.

    Args:
        name: the module as `import` finds it, a colon, and the object in it; dots lead into classes.
        what: what it is wanted as, with its article, such as `an agent`; for error messages.

    Raises:
        UnknownName: the name has another form, the module cannot be imported, or it has no such object.
    """
    module_name, colon, path = name.partition(":")
    if not (module_name and colon and path):
        raise UnknownName(f"{name!r} does not name {what}; wanted module:name, such as my_module:MyClass.")
    tell_import(name, what=what)
    add_working_directory()
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        raise UnknownName(
            f"the module of {name!r} cannot be imported ({type(error).__name__}: {error}); wanted {what} as "
            "module:name, the module as `import` finds it from the working directory."
        ) from error
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            known = [other for other in vars(found) if not other.startswith("_")] if hasattr(found, "__dict__") else []
            raise UnknownName(
                f"{module_name} has no {path!r}; wanted {what} as module:name.{did_you_mean(part, known)}"
            ) from error
    return found


def add_working_directory() -> None:
    """Put the working directory on `sys.path`, unless it is there."""
    folder = os.getcwd()
    if folder not in sys.path and "" not in sys.path:
        sys.path.insert(0, folder)


def add_run_directory(folder: object) -> None:
    """Put the folder in which a run was begun first on `sys.path`: its `module:name` objects are those found there.

    Args:
        folder: as the run's record has it; None, or a folder that is no more, is left out.
    """
    if isinstance(folder, str) and os.path.isdir(folder):
        add_working_directory()
        if folder in sys.path:
            sys.path.remove(folder)
        sys.path.insert(0, folder)


def import_extra(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Return a module that an optional dependency provides.

    Args:
        module: its dotted name.
        extra: the extra of `sdar-envs` that installs it.
        purpose: what needs it, such as `the retrieval server`; the subject of the error message.

    Raises:
        MissingExtra: it is not installed; the message has the command that installs it.
    """
    with extra_imports(extra, purpose=purpose):
        return importlib.import_module(module)


@contextmanager
def extra_imports(extra: str, *, purpose: str) -> Iterator[None]:
    """Context for import statements of optional dependencies, at the top of a module that cannot do without them.

    Args:
        extra: the extra of `sdar-envs` that installs them.
        purpose: what needs them, such as `the retrieval server`; the subject of the error message.

    Raises:
        MissingExtra: one is not installed; the message has the command that installs it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "sdar_envs"):
            raise
        raise MissingExtra(
            f"{purpose} needs {package}, which is not installed: pip install 'sdar-envs[{extra}]'", name=error.name
        ) from error
