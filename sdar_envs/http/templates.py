"""HTML templates: the Jinja2 environment that all pages of this package are rendered in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

__all__ = ["open_templates"]


def open_templates(package: str, *, finalize: Callable[[Any], Any] | None = None) -> Environment:
    """Return the templates of a package: values are escaped, and a name without a value is an error.

    Args:
        package: name of the package that has the folder `templates`.
        finalize: called with the value of every expression before it is written.
    """
    return Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        auto_reload=False,
    )
