"""Prompt styles by name: built-in ones, objects of your own, and files."""

from __future__ import annotations

import os
from contextvars import ContextVar
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

from sdar_envs.errors import CorruptData, InvalidOption, MissingData, UnknownName, did_you_mean
from sdar_envs.files.foreign import read_foreign
from sdar_envs.files.json_text import parse_json
from sdar_envs.importing import import_named, is_import_path, names_from
from sdar_envs.prompt.parity import PARITY_STYLES
from sdar_envs.prompt.style import DEFAULT_STYLE, STYLES, PromptStyle
from sdar_envs.prompt.templates import PromptTemplates

__all__ = ["resolve_style"]

_DATA = (".yaml", ".yml", ".json")
_JINJA = (".jinja", ".jinja2", ".j2")
# Files whose bases are being read.
_being_read: ContextVar[tuple[Path, ...]] = ContextVar("being_read", default=())


def resolve_style(name: str) -> PromptStyle:
    """Return the prompt style of that name: a built-in one, an object of your own or a file.

    A file of fields is a mapping of fields of `PromptStyle`, where `parse` is a function's `module:name`, `templates` a
    mapping of fields of `PromptTemplates`, and `base` the name of a style that the fields not given come from. A Jinja2
    file is the template of all turns; in front of it, between two lines `---`, other fields may stand as YAML.

    Args:
        name: a suite (`alfworld`, `webshop`, `search_qa`) or `default`; one of `PARITY_STYLES`; `module:STYLE` (see
            `sdar_envs.importing.import_named`); or a file: of fields (`.yaml`, `.yml`, `.json`) or a Jinja2 template
            (`.jinja`, `.jinja2`, `.j2`).

    Raises:
        UnknownName: there is no such style, module or object, or the file has a key that is no field, or a template a
            slot that it does not have.
        InvalidOption: the object is no `PromptStyle`, or a field of the file has a value of the wrong type.
        MissingData: there is no such file.
        CorruptData: the file is not YAML or JSON of a mapping.
    """
    known = {"default": DEFAULT_STYLE, **STYLES, **PARITY_STYLES}
    if name in known:
        return known[name]
    if name.endswith((*_DATA, *_JINJA)):
        return _style_from_file(Path(name).expanduser())
    if not is_import_path(name):
        raise UnknownName(
            f"no prompt style {name!r}; wanted one of {', '.join(known)}, your own as module:STYLE, a .yaml or .json "
            f"file with fields of PromptStyle, or a .jinja2 template.{did_you_mean(name, known)}"
        )
    style = import_named(name, what="a prompt style")
    if not isinstance(style, PromptStyle):
        raise InvalidOption(f"{name} is {style!r:.80} ({type(style).__name__}); wanted a sdar_envs.PromptStyle.")
    return style


def _style_from_file(path: Path) -> PromptStyle:
    given = _read(path)
    names_from(given, path)
    kinds = {field.name: str(field.type) for field in fields(PromptStyle) if field.name != "tools"}
    base_name = given.pop("base", None)
    for name in given:
        if name not in kinds:
            raise UnknownName(
                f"{path} has a key {name!r}; the keys of a prompt style are base, {', '.join(kinds)}."
                f"{did_you_mean(name, ['base', *kinds])}"
            )
    values = {name: _field_value(path, name, kinds[name], value) for name, value in given.items()}
    if base_name is not None:
        if not isinstance(base_name, str):
            raise InvalidOption(f"base in {path} is {base_name!r:.80}; wanted the name of a prompt style.")
        return replace(_base(path, base_name), **values)
    if values.get("templates") is not None:
        values.setdefault("role", "")
    for field in fields(PromptStyle):
        if field.default is MISSING and field.name not in values:
            raise InvalidOption(
                f"{path} has no {field.name!r}; a prompt style needs it, an empty text for none, or a base that has it."
            )
    return PromptStyle(**values)


def _base(path: Path, name: str) -> PromptStyle:
    """Return the style that a file is based on.

    Raises:
        InvalidOption: it is based on itself, over other files or at once.
    """
    file = path.absolute()
    if file in _being_read.get():
        raise InvalidOption(
            f"the prompt style {path} is based on itself: base in it leads back to it. Name another base."
        )
    token = _being_read.set((*_being_read.get(), file))
    try:
        return resolve_style(name)
    finally:
        _being_read.reset(token)


def _read(path: Path) -> dict[str, Any]:
    """Return the content of a file; that of a Jinja2 file has its text as `templates.first`."""
    from sdar_envs.files.yaml_text import read_yaml  # noqa: PLC0415  # `import sdar_envs` stays light

    try:
        text = read_foreign(path)
        template = None
        if path.name.endswith(_JINJA):
            front, text = _front_matter(text)
            text, template = front, text
        given = parse_json(text) if path.suffix == ".json" else read_yaml(text, "the file")
    except FileNotFoundError as error:
        raise MissingData(f"no prompt style file {str(path)!r}; the working directory is {os.getcwd()}.") from error
    except (OSError, ValueError) as error:
        raise CorruptData(f"the prompt style {path} cannot be read: {error}") from error
    if template is not None:
        given = {} if given is None else given
        templates = given.setdefault("templates", {}) if isinstance(given, dict) else None
        if isinstance(templates, dict):
            templates.setdefault("first", template)
    if not isinstance(given, dict):
        raise CorruptData(f"the prompt style {path} holds {given!r:.50}; wanted a mapping of PromptStyle's fields.")
    return given


def _front_matter(text: str) -> tuple[str, str]:
    """Return what stands between two lines `---` at the beginning of a text, and the rest."""
    if not text.startswith("---\n"):
        return "", text
    front, found, rest = text[4:].partition("\n---\n")
    return (front, rest) if found else ("", text)


def _templates(path: Path, value: Any) -> PromptTemplates:
    if not isinstance(value, dict):
        raise InvalidOption(f"templates in {path} is {value!r:.80}; wanted a mapping of PromptTemplates' fields.")
    known = [field.name for field in fields(PromptTemplates)]
    for name in value:
        if name not in known:
            raise UnknownName(
                f"templates in {path} has a key {name!r}; the templates are {', '.join(known)}."
                f"{did_you_mean(name, known)}"
            )
    if "first" not in value:
        raise InvalidOption(f"templates in {path} has no 'first', the template of the first turn; all styles need it.")
    _field_value(path, "templates.is_transcript", "bool", value.get("is_transcript", False))
    try:
        return PromptTemplates(**value)
    except (InvalidOption, UnknownName) as error:
        raise type(error)(f"in {path}, {error}") from error


def _field_value(path: Path, name: str, kind: str, value: Any) -> Any:
    """Return a field's value as `PromptStyle` wants it, from the value in a file."""
    if name == "templates":
        return None if value is None else _templates(path, value)
    wanted = "true or false"
    if kind == "bool":
        if isinstance(value, bool):
            return value
    elif kind in ("str", "ActionFormat"):
        wanted = "text"
        if isinstance(value, str):
            return value
    elif kind == "int | None":
        wanted = f"a number of {'turns' if name == 'history_length' else 'characters'}, or null for no limit"
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
    elif kind.startswith("Callable"):
        wanted = "the module:name of a function"
        if value is None or isinstance(value, str):
            return None if value is None else import_named(value, what="a parse function")
    else:
        wanted = "a list of texts"
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value) if kind.startswith("tuple") else frozenset(value)
    raise InvalidOption(f"{name} in {path} is {value!r:.80}; wanted {wanted}.")
