"""MkDocs hook: adds the generated pages, and the pages of folders whose files are not named one by one."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
for folder in (_HERE.parent, *(_HERE.parents[1] / name for name in ("", "skills", "agents", "benchmarks"))):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

from mkdocs.exceptions import PluginError  # noqa: E402
from mkdocs.structure.files import File  # noqa: E402

from page_makers import formulas  # noqa: E402
from page_makers.pages import (  # noqa: E402
    command_line,
    errors,
    extras,
    files,
    info_keys,
    notebooks,
    python_api,
    results,
    settings,
)

__all__ = ["generated_pages", "on_config", "on_files", "on_page_markdown"]

_UPWARDS = re.compile(r"\]\((\.\./[^)\s#]+)\)")


def generated_pages() -> Iterator[tuple[str, str]]:
    """Yield the path and the content of each generated file of the site."""
    yield from command_line.command_pages()
    yield "reference/training-configuration.md", settings.training_page()
    yield "reference/methods.md", settings.method_page()
    yield "reference/fine-tuning.md", settings.sft_page()
    yield "reference/agents.md", settings.agent_page()
    yield "reference/environments.md", settings.environment_page()
    yield from python_api.api_pages()
    yield "reference/info.md", info_keys.info_page()
    yield "reference/files.md", files.files_page()
    yield from files.schema_files()
    yield "reference/errors.md", errors.errors_page()
    yield "reference/extras.md", extras.extras_page()
    yield "benchmarks/speed.md", results.speed_page()
    yield "benchmarks/large-corpora.md", results.large_corpora_page()
    yield from results.study_pages()
    yield "benchmarks/leaderboard.md", results.leaderboard_page()
    yield from notebooks.notebook_pages()


def on_config(config: Any) -> Any:
    """Set the formats of formulas, and replace `FOLDER/*` in the navigation by the other pages of that folder.

    Raises:
        PluginError: a public name has no docstring.
    """
    missing = python_api.undocumented()
    if missing:
        raise PluginError(f"public names without a docstring: {', '.join(missing)}")
    config.mdx_configs["pymdownx.superfences"] = {
        "custom_fences": [{"name": "math", "class": "math", "format": formulas.block}]
    }
    config.mdx_configs["pymdownx.inlinehilite"] = {
        "custom_inline": [{"name": "math", "class": "math", "format": formulas.inline}]
    }
    generated = dict(generated_pages())
    config.extra["generated"] = generated
    config.nav = _expanded(config.nav, Path(config.docs_dir), list(generated), set(_named(config.nav)))
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the generated files."""
    for path, content in config.extra.pop("generated").items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Lead links to files of the repository that are no pages to the repository."""
    docs = Path(config.docs_dir)
    folder = (docs / page.file.src_uri).parent

    def lead(link: re.Match[str]) -> str:
        place = (folder / link[1]).resolve()
        is_elsewhere = docs not in place.parents and docs.parent in place.parents and place.exists()
        return (
            f"]({results.repository_address(place.relative_to(docs.parent).as_posix())})" if is_elsewhere else link[0]
        )

    return _UPWARDS.sub(lead, markdown)


def _named(entries: Any) -> Iterator[str]:
    for entry in entries:
        if isinstance(entry, str):
            yield entry
        else:
            for below in entry.values():
                yield from [below] if isinstance(below, str) else _named(below)


def _expanded(entries: Any, docs: Path, generated: list[str], named: set[str]) -> list[Any]:
    result: list[Any] = []
    for entry in entries:
        if isinstance(entry, str) and entry.endswith("/*"):
            folder = entry.removesuffix("/*")
            written = [path.relative_to(docs).as_posix() for path in sorted((docs / folder).glob("*.md"))]
            made = [path for path in generated if path.startswith(f"{folder}/") and path.endswith(".md")]
            result += [path for path in dict.fromkeys([*written, *made]) if path not in named]
        elif isinstance(entry, dict):
            result.append(
                {
                    title: below if isinstance(below, str) else _expanded(below, docs, generated, named)
                    for title, below in entry.items()
                }
            )
        else:
            result.append(entry)
    return result
