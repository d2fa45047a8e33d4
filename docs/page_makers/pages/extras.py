"""Table of the extras, made from `pyproject.toml`: what each is for is the comment above it."""

from __future__ import annotations

import re
import tomllib

from page_makers.markdown import cell, code, table
from page_makers.pages.results import ROOT

__all__ = ["extras", "extras_page"]

_COMMENTED = re.compile(r"((?:^# .*\n)+)^([\w-]+) = \[", re.MULTILINE)


def extras() -> dict[str, tuple[str, list[str]]]:
    """Return the purpose and the packages of each extra."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = text[text.index("[project.optional-dependencies]") :]
    purposes = {
        name: " ".join(line.removeprefix("# ") for line in comment.splitlines())
        for comment, name in _COMMENTED.findall(section)
    }
    packages = tomllib.loads(text)["project"]["optional-dependencies"]
    return {name: (purposes.get(name, ""), wanted) for name, wanted in packages.items()}


def extras_page() -> str:
    """Return the page of the extras."""
    rows = [
        (code(name), cell(purpose), ", ".join(code(package) for package in packages))
        for name, (purpose, packages) in extras().items()
    ]
    return (
        "# Extras\n\n"
        "Without any extra everything works but training, fine-tuning, servers, their clients, models and optional "
        "search engines. What needs an extra that is not installed says in one line which one, and exits with "
        "status 2. "
        "`pip install '.[train,lora]'` installs two.\n\n" + table(("extra", "for", "packages"), rows) + "\n"
    )
