"""YAML from outside: a strict reader.

It follows YAML 1.2: `3e-6` is a number, `yes` and `on` are strings, and a duplicate key is an error. So are values that
are nested too deeply, that contain themselves, or that stand for more than fits into memory.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from sdar_envs.errors import CorruptData
from sdar_envs.files.json_text import check_nesting

__all__ = ["compose_yaml", "read_yaml"]

_MOST_PARTS = 100_000

# What PyYAML raises: for numbers and dates that are none, tags that do not fit, keys that cannot be hashed, and depth.
_FAULTS = (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError)


class _Loader(yaml.SafeLoader):
    """PyYAML loader with the numbers and booleans of YAML 1.2, and unique keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a dictionary; a duplicate key is an error."""
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} comes twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] not in ("bool", "float", "int")]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), "tTfF")
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), "-+0123456789")
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    "-+0123456789.",
)
# PyYAML follows YAML 1.1: 010 would be octal and 1:30 ninety. Here they are 10 and a string.
_Loader.add_constructor("tag:yaml.org,2002:int", lambda _, node: int(node.value))


def read_yaml(text: str, where: str) -> Any:
    """Parse a YAML 1.2 document.

    Args:
        text: the document.
        where: its name in error messages.

    Raises:
        CorruptData: the document is not valid YAML, has a duplicate key, is nested too deeply, or holds too much.
    """
    try:
        value = yaml.load(text, _Loader)  # noqa: TID251
        check_nesting(value, most_parts=_MOST_PARTS)
    except _FAULTS as error:
        raise CorruptData(f"{where} is no YAML that can be read ({_problem(error)}).") from error
    return value


def compose_yaml(text: str) -> yaml.Node | None:
    """Return the root of a YAML document's tree, whose nodes know their lines.

    Raises:
        YAMLError: it is no YAML, or nested too deeply.
    """
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except RecursionError:
        raise yaml.YAMLError(_TOO_DEEP) from None


_TOO_DEEP = "it is nested too deeply"


def _problem(error: Exception) -> str:
    return _TOO_DEEP if isinstance(error, RecursionError) else " ".join(str(error).split())
