"""Prompts of verl-agent, SDAR and Search-R1, read from a clone of theirs into a file of ours.

A checkpoint that was trained by one of these projects is to be evaluated with the words that it was trained on. Their
texts are theirs and not in this package: `import_prompts` reads the string constants of the user's own clone, by `ast`,
so nothing of it is executed, and translates their slots. How the projects fill the slots (which turns the history
shows, how commands and pages are written) is part of the style that is made.

verl-agent and SDAR hold two templates for each suite, `ALFWORLD_TEMPLATE_NO_HIS` and `ALFWORLD_TEMPLATE` and so on,
in `agent_system/environments/prompts`, for `str.format`. Search-R1 writes its prompt as an f-string, `prefix`, in
`make_prefix` of `scripts/data_process/nq_search.py`, and lets the model go on with one growing text.
"""

from __future__ import annotations

import ast
import hashlib
import re
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from sdar_envs.errors import CorruptData, InvalidOption, MissingData, UnknownName, check_choice, did_you_mean
from sdar_envs.prompt.templates import PromptTemplates

__all__ = ["PROJECTS", "ImportedStyle", "import_prompts"]

Project = Literal["verl-agent", "sdar", "search-r1"]

PROJECTS: tuple[Project, ...] = ("verl-agent", "sdar", "search-r1")
"""The projects whose prompts can be read."""

_QUESTION = "{{ task | trim }}{{ '' if (task | trim).endswith('?') else '?' }}"
_SLOTS: Mapping[str, str] = MappingProxyType(
    {
        "task_description": "{{ task }}",
        "instruction_text": "{{ task }}",
        "question": "{{ task }}",
        "step_count": "{{ steps_taken }}",
        "history_length": "{{ steps_shown }}",
        "action_history": "{{ history }}",
        "memory_context": "{{ history }}",
        "current_step": "{{ step }}",
        "current_observation": "{{ observation }}",
        "admissible_actions": "{{ commands }}",
        "available_actions": "{{ commands }}",
    }
)

# A page as verl-agent shows it: what follows the instruction, each part in quotes; the page itself if it is not there.
_PAGE = """\
{%- set parts = observation.split(' [SEP] ') -%}
{%- if task in parts -%}
{%- for part in parts[parts.index(task) + 1:] -%}
{{ '' if loop.first else ' [SEP] ' }}'{{ part }}'
{%- endfor -%}
{%- else -%}
{{ observation }}
{%- endif -%}"""
# The original lists the search button too, which does nothing.
_SHOP_COMMAND = "'{{ command }}',{% if command == 'search[<your query>]' %}\n'click[search]',{% endif %}"


@dataclass(frozen=True, slots=True)
class _Suite:
    """How verl-agent presents a suite, but for its words."""

    prefix: str
    base: str
    history_length: int
    templates: Mapping[str, str]


_SUITES: Mapping[str, _Suite] = MappingProxyType(
    {
        "alfworld": _Suite(
            "ALFWORLD",
            "verl-agent/alfworld",
            2,
            {
                "history_item": "[Observation {{ step }}: '{{ observation }}', Action {{ step }}: '{{ action }}']",
                "command": "'{{ command }}'",
                "command_separator": "\n ",
            },
        ),
        "webshop": _Suite(
            "WEBSHOP",
            "verl-agent/webshop",
            2,
            {
                "observation": _PAGE,
                "history_item": "[Observation {{ step }}: '{{ observation }}', Action {{ step }}: '{{ action }}']",
                "command": _SHOP_COMMAND,
            },
        ),
        "search_qa": _Suite(
            "SEARCH",
            "sdar_envs.search_qa.reference:STYLE",
            4,
            {"history_item": "Step {{ step }}:{{ action }} {{ result }}\n"},
        ),
    }
)


@dataclass(frozen=True, slots=True)
class ImportedStyle:
    """A prompt style that was read from a clone.

    Attributes:
        suite: what it is for.
        fields: fields of a style file (`sdar_envs.prompt.resolve_style`), as values of YAML.
        sources: the files that were read, with their SHA-256.
    """

    suite: str
    fields: Mapping[str, Any]
    sources: Mapping[str, str]

    def to_yaml(self) -> str:
        """Return the content of a style file."""
        import yaml  # noqa: PLC0415  # `import sdar_envs` stays light

        class Dumper(yaml.SafeDumper):
            """Writes texts of several lines as blocks."""

        def write_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
            return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)

        Dumper.add_representer(str, write_text)
        lines = [
            f"# A prompt style for {self.suite}, as `sdar prompts import` read it. Its words are those of the project:",
            *(f"# {name}, SHA-256 {digest}" for name, digest in self.sources.items()),
        ]
        body: str = yaml.dump(dict(self.fields), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120)
        return "\n".join([*lines, body])


def import_prompts(path: Path, project: str, suite: str | None = None) -> ImportedStyle:
    """Read the prompts of a project's clone.

    Args:
        path: the clone, or one of its files.
        project: one of `PROJECTS`.
        suite: whose prompts, where the clone holds those of several.

    Raises:
        InvalidOption: there is no such project, or the suite must be named.
        MissingData: the files are not there, or hold no such prompts.
        UnknownName: a prompt has a slot that is not known, or there is no such suite.
        CorruptData: a file is no Python, or a prompt is no string constant.
    """
    check_choice("the project", project, PROJECTS)
    if project == "search-r1":
        if suite not in (None, "search_qa"):
            raise InvalidOption(f"suite is {suite!r}, and Search-R1 answers questions: leave it out.")
        return _import_search_r1(path)
    if suite is not None and suite not in _SUITES:
        raise UnknownName(f"no suite {suite!r}; wanted one of {', '.join(_SUITES)}.{did_you_mean(suite, _SUITES)}")
    return _import_verl_agent(path, suite)


def _import_verl_agent(path: Path, suite: str | None) -> ImportedStyle:
    files = _files(path, "agent_system/environments/prompts", "*.py")
    constants = {name: (node, file) for file in files for name, node in _constants(_parse(file))}
    known = {name for name, made in _SUITES.items() if f"{made.prefix}_TEMPLATE" in constants}
    if not known:
        raise MissingData(
            f"{path} holds no prompts of verl-agent: none of "
            f"{', '.join(f'{made.prefix}_TEMPLATE' for made in _SUITES.values())} is assigned in {_names(files)}."
        )
    if suite is None:
        if len(known) > 1:
            raise InvalidOption(f"{path} holds prompts of {', '.join(sorted(known))}: choose one as the suite.")
        (suite,) = known
    made = _SUITES[suite]
    templates = {}
    sources = []
    for key, name in (("first", f"{made.prefix}_TEMPLATE_NO_HIS"), ("later", f"{made.prefix}_TEMPLATE")):
        if name not in constants:
            raise MissingData(f"{_names(files)} assign no {name}.{did_you_mean(name, constants)}")
        node, file = constants[name]
        text = _constant(node)
        if text is None:
            raise CorruptData(f"{name} in {file}, line {node.lineno}, is no string constant, and nothing is executed.")
        templates[key] = _from_format(text, f"{name} in {file}")
        sources.append(file)
    fields = {"base": made.base, "history_length": made.history_length}
    return _style(suite, fields, {**templates, **made.templates}, path=path, sources=sources)


def _import_search_r1(path: Path) -> ImportedStyle:
    for file in _files(path, "scripts/data_process", "nq_search.py"):
        for node in ast.walk(_parse(file)):
            if isinstance(node, ast.FunctionDef) and node.name == "make_prefix":
                prefix = next((value for name, value in _constants(node) if name == "prefix"), None)
                if prefix is None:
                    continue
                templates = {
                    "first": _from_f_string(prefix, f"prefix in {file}"),
                    "history_item": "{{ completion }}{{ result }}",
                    "history_separator": "",
                    "is_transcript": True,
                }
                # All turns are shown, however many there are.
                fields = {
                    "base": "sdar_envs.search_qa.search_r1:STYLE",
                    "history_length": 1000,
                    "stop": ["</search>", "</answer>"],
                }
                return _style("search_qa", fields, templates, path=path, sources=[file])
    raise MissingData(f"{path} holds no prompt of Search-R1: wanted a function make_prefix that assigns prefix.")


def _style(
    suite: str, fields: Mapping[str, Any], templates: Mapping[str, Any], *, path: Path, sources: Sequence[Path]
) -> ImportedStyle:
    PromptTemplates(**templates)  # a slot that is missing is an error now
    root = path if path.is_dir() else path.parent
    digests = {
        file.relative_to(root).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in dict.fromkeys(sources)
    }
    return ImportedStyle(suite, {**fields, "templates": dict(templates)}, digests)


def _files(path: Path, folder: str, pattern: str) -> list[Path]:
    """Return the files to read: the one that was named, or those of a clone or of the folder itself."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise MissingData(f"there is no {path}; wanted a clone of the project, or one of its files.")
    for place in (path / folder, path):
        found = sorted(file for file in place.glob(pattern) if file.is_file())
        if found:
            return found
    raise MissingData(f"{path} has no {folder}/{pattern}; wanted a clone of the project, or one of its files.")


def _parse(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError) as error:
        raise CorruptData(f"{file} cannot be read as Python: {error}") from error


def _constants(tree: ast.Module | ast.FunctionDef) -> Iterator[tuple[str, ast.expr]]:
    """Yield what is assigned to names, in order; in a function also inside of its branches."""
    nodes: Iterator[ast.AST] = iter(tree.body) if isinstance(tree, ast.Module) else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Assign):
            yield from ((target.id, node.value) for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and node.value is not None and isinstance(node.target, ast.Name):
            yield node.target.id, node.value


def _constant(node: ast.expr) -> str | None:
    """Return the text of a constant expression: literals, their sums, and `.strip()` of one; None for anything else."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _constant(node.left), _constant(node.right)
        return None if left is None or right is None else left + right
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and not (node.args or node.keywords):
        text = _constant(node.func.value)
        if text is not None and node.func.attr in ("strip", "lstrip", "rstrip"):
            stripped: str = getattr(text, node.func.attr)()
            return stripped
    return None


def _from_format(text: str, where: str) -> str:
    """Return a text for `str.format` as a template."""
    made = []
    try:
        for literal, slot, spec, conversion in string.Formatter().parse(text):
            made.append(_literal(literal))
            if slot is not None:
                if spec or conversion:
                    raise CorruptData(f"{where} formats the slot {slot!r}; wanted plain slots.")
                made.append(_slot(slot, where))
    except ValueError as error:
        raise CorruptData(f"{where} is no text for str.format: {error}.") from error
    return "".join(made)


def _from_f_string(node: ast.expr, where: str) -> str:
    """Return an f-string as a template; its expressions are names, or items by a name such as `dp['question']`."""
    if not isinstance(node, ast.JoinedStr):
        text = _constant(node)
        if text is None:
            raise CorruptData(f"{where}, line {node.lineno}, is no f-string, and nothing is executed.")
        return _from_format(text, where)
    made = []
    for value in node.values:
        if isinstance(value, ast.Constant):
            made.append(_literal(str(value.value)))
            continue
        assert isinstance(value, ast.FormattedValue)
        slot = value.value
        name = slot.slice if isinstance(slot, ast.Subscript) else slot
        key = name.id if isinstance(name, ast.Name) else name.value if isinstance(name, ast.Constant) else None
        if not isinstance(key, str) or value.format_spec is not None or value.conversion != -1:
            raise CorruptData(f"{where}, line {node.lineno}, has the slot {ast.unparse(slot)!r:.60}; wanted a name.")
        # The data of Search-R1 end each question with a question mark.
        made.append(_QUESTION if key == "question" else _slot(key, where))
    return "".join(made)


def _slot(name: str, where: str) -> str:
    if name not in _SLOTS:
        raise UnknownName(
            f"{where} has a slot {name!r}, which is not known; known are {', '.join(_SLOTS)}."
            f"{did_you_mean(name, _SLOTS)}"
        )
    return _SLOTS[name]


def _literal(text: str) -> str:
    """Return a text that a template writes as it is."""
    return re.sub(r"[{\r]", lambda match: "{{ " + repr(match[0]) + " }}", text)


def _names(files: Sequence[Path]) -> str:
    return ", ".join(file.name for file in files)
