"""Pages of the file formats: what module docstrings say of them, and the JSON Schema of each row."""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from page_makers.docstrings import attribute_texts, summary
from page_makers.markdown import cell, code, table
from sdar_benchmarks.leaderboard.actions import PlayedEpisode
from sdar_benchmarks.leaderboard.records import FIELDS
from sdar_benchmarks.records.runs import ROW_NAMES, Episode, RunConfig
from sdar_benchmarks.records.schema import json_schema

__all__ = ["FORMATS", "SCHEMAS", "Format", "files_page", "schema_files"]


class Format(NamedTuple):
    """A format of files.

    Attributes:
        title: of its section.
        module: whose docstring describes it.
        version: where its version is, as `module:NAME`; empty for a format without one.
        note: added to the docstring.
    """

    title: str
    module: str
    version: str = ""
    note: str = ""


FORMATS = (
    Format("Run folder of an evaluation", "sdar_benchmarks.records.runs", "sdar_benchmarks.records.runs:FORMAT"),
    Format("Run folder of a training run", "sdar_agents.training.trainer"),
    Format("Metrics of a training run", "sdar_benchmarks.records.metrics"),
    Format("Trajectories of a training run", "sdar_agents.rollout.recording", "sdar_agents.rollout.recording:FORMAT"),
    Format("Checkpoints", "sdar_agents.training.saving.checkpoints"),
    Format("Run folder of fine-tuning", "sdar_agents.sft.warm_start"),
    Format("Demonstrations", "sdar_agents.sft.demonstrations"),
    Format("Leaderboard records", "sdar_benchmarks.leaderboard.records", "sdar_benchmarks.leaderboard.records:FORMAT"),
    Format("Actions beside a record", "sdar_benchmarks.leaderboard.actions"),
    Format("Skills (`SKILL.md`)", "sdar_skills.library.skill_file"),
    Format("Skills of other projects", "sdar_skills.formats"),
    Format("Ledger of skill use", "sdar_skills.evidence.ledger"),
    Format("Prompt templates", "sdar_envs.prompt.templates"),
    Format("Search indexes", "sdar_envs.search_qa.retrieval.index"),
    Format("Corpora of passages", "sdar_envs.search_qa.corpus"),
    Format("Older run folders", "sdar_benchmarks.records.migration"),
)
"""The formats, in the order of the page."""


def _episode() -> dict[str, Any]:
    return json_schema(Episode, ROW_NAMES)


def _config() -> dict[str, Any]:
    return json_schema(RunConfig)


def _record() -> dict[str, Any]:
    return json_schema(FIELDS)


def _played() -> dict[str, Any]:
    return json_schema(PlayedEpisode)


SCHEMAS: Mapping[str, tuple[str, Callable[[], dict[str, Any]]]] = {
    "config": ("`config.json` of an evaluation", _config),
    "episode": ("a row of `episodes.jsonl`", _episode),
    "record": ("a record of a leaderboard", _record),
    "actions": ("a row of the actions beside a record", _played),
}
"""By name, what the schema describes, and the function that makes it."""


def schema_files() -> Iterator[tuple[str, str]]:
    """Yield the path and the text of each JSON Schema."""
    for name, (what, make) in SCHEMAS.items():
        schema = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": what.replace("`", ""),
            **make(),
        }
        yield f"reference/schemas/{name}.schema.json", json.dumps(schema, indent=2) + "\n"


def files_page() -> str:
    """Return the page of the file formats."""
    schemas = [
        (f"[`{name}.schema.json`](schemas/{name}.schema.json)", cell(what)) for name, (what, _) in SCHEMAS.items()
    ]
    parts = [
        "# File formats\n",
        "All files are JSON, JSON Lines, YAML, Markdown, SQLite or safetensors. Rows are appended and flushed; "
        "other files are replaced atomically, so a reader never sees half a file. A version is raised when a reader "
        "of the old one would "
        "misunderstand the new one.\n",
        "JSON Schemas (2020-12). The readers here check the same and a little more, such as that seeds differ.\n",
        table(("schema", "of"), schemas),
        "",
    ]
    for form in FORMATS:
        parts.append(f"## {form.title}\n")
        if form.version:
            module, _, name = form.version.partition(":")
            parts.append(f"Version {getattr(importlib.import_module(module), name)}.\n")
        parts.append(f"{inspect.getdoc(importlib.import_module(form.module))}\n")
        if form.module == "sdar_benchmarks.records.runs":
            texts = attribute_texts(Episode)
            rows = [(code(ROW_NAMES.get(name, name)), cell(text)) for name, text in texts.items()]
            parts += [f"### Rows of `episodes.jsonl`\n\n{summary(Episode)}\n", table(("field", "meaning"), rows), ""]
    return "\n".join(parts)
