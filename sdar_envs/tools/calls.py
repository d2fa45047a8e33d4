"""Actions as tools: what a model calls instead of writing its action in tags, and how a call becomes a command.

A `Tool` is one kind of command with one text argument; a prompt style names the tools of its suite
(`PromptStyle.tools`). `tool_schemas` gives them in the form of OpenAI's API, which other trainers and protocols read
too. With the action format `tools` a server returns the calls apart from the text; with `json` the model writes one as
a JSON object, `{"name": ..., "arguments": {...}}`, which needs nothing of the server. `sdar_envs.prompt` parses both by
the rules of tags: the first call counts, and a style that allows no repeats takes a second one for malformed.

A call that no tool reads (another name, arguments that are no JSON object of one text) is no action; the environment
answers it in words like any other command that it does not know.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sdar_envs.files.json_text import parse_json

__all__ = [
    "ACT",
    "ANSWER",
    "CLICK",
    "FIND",
    "SEARCH",
    "ActionFormat",
    "Tool",
    "ToolCall",
    "api_messages",
    "assistant_message",
    "calls_in",
    "command_of",
    "tool_schemas",
]

ActionFormat = Literal["tags", "tools", "json"]
"""How a model gives its action: in tags, as a native tool call, or as a JSON object in its text."""

_MOST_FAILURES = 64


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call, as the model made it.

    Attributes:
        name: of the tool.
        arguments: JSON, as it came; not checked.
        id: what the server calls it by; empty for none.
    """

    name: str
    arguments: str
    id: str = ""

    def to_json(self) -> dict[str, str]:
        """Return the call as a dictionary of JSON values."""
        return {"name": self.name, "arguments": self.arguments} | ({"id": self.id} if self.id else {})


@dataclass(frozen=True, slots=True)
class Tool:
    """A kind of command with one text argument.

    Attributes:
        name: what a model calls.
        description: what it does.
        parameter: name of the argument.
        meaning: what the argument is.
        before: the command up to the argument, such as `search[`; empty if the argument is the command.
        after: the command behind the argument, such as `]`.
    """

    name: str
    description: str
    parameter: str
    meaning: str
    before: str = ""
    after: str = ""

    def command(self, argument: str) -> str:
        """Return the environment's command."""
        return f"{self.before}{argument.strip()}{self.after}"

    def argument(self, command: str) -> str | None:
        """Return the argument of a command; None if the command is not of this tool."""
        fits = command.startswith(self.before) and command.endswith(self.after)
        if not fits or len(command) < len(self.before) + len(self.after):
            return None
        return command[len(self.before) : len(command) - len(self.after)]

    def call(self, argument: str) -> str:
        """Return a call as the JSON object that `calls_in` reads."""
        return json.dumps({"name": self.name, "arguments": {self.parameter: argument}}, ensure_ascii=False)

    def schema(self) -> dict[str, Any]:
        """Return the tool as OpenAI's API wants it."""
        return {
            "type": "function",
            "function": {
                "name": self.name,
                "description": self.description,
                "parameters": {
                    "type": "object",
                    "properties": {self.parameter: {"type": "string", "description": self.meaning}},
                    "required": [self.parameter],
                    "additionalProperties": False,
                },
            },
        }


ACT = Tool("act", "Give one command.", "command", "The command, word for word as it is listed.")
"""The tool of environments whose commands are free text, or listed: any command is its argument."""

FIND = Tool("search", "Look for products; shows ten to a page.", "query", "Words to look for.", "search[", "]")
CLICK = Tool(
    "click",
    "Follow a link or press a button of the page, such as a product's code, an option's value or buy now.",
    "element",
    "The link or button, word for word as it is listed.",
    "click[",
    "]",
)
SEARCH = Tool(
    "search", "Search the encyclopedia; shows a few passages.", "query", "What to search for.", "search[", "]"
)
ANSWER = Tool(
    "answer",
    "Answer the question, which ends the task.",
    "text",
    "The bare answer: a name, number or date, and no sentence.",
    "answer[",
    "]",
)


def tool_schemas(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """Return tools as OpenAI's API wants them: JSON values, in order."""
    return [tool.schema() for tool in tools]


def assistant_message(content: str, calls: Sequence[ToolCall], ids: Sequence[str]) -> dict[str, str]:
    """Return a chat message of the assistant with its calls as JSON text, for `api_messages`.

    Args:
        content: its text.
        calls: its native tool calls.
        ids: what each is called by, in the place of its own.
    """
    message = {"role": "assistant", "content": content}
    if not calls:
        return message
    listed = [
        {"id": call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call, call_id in zip(calls, ids, strict=True)
    ]
    return {**message, "tool_calls": json.dumps(listed, ensure_ascii=False)}


def api_messages(messages: Iterable[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Return chat messages as OpenAI's API wants them: tool calls as lists instead of JSON text."""
    return [
        {**message, "tool_calls": parse_json(message["tool_calls"])} if "tool_calls" in message else dict(message)
        for message in messages
    ]


def command_of(call: ToolCall, tools: Sequence[Tool]) -> str | None:
    """Return the command that a call stands for; None if no tool has its name, or its arguments are malformed.

    A number is taken as its text.
    """
    tool = next((tool for tool in tools if tool.name == call.name), None)
    if tool is None:
        return None
    try:
        arguments = parse_json(call.arguments)
    except ValueError:
        return None
    if not isinstance(arguments, dict) or list(arguments) != [tool.parameter]:
        return None
    value = arguments[tool.parameter]
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = json.dumps(value)
    # Half of a surrogate pair, which JSON can name, is no text: nothing could write it down.
    is_text = isinstance(value, str) and value.encode("utf-8", "replace").decode() == value
    return tool.command(value) if is_text else None


def calls_in(text: str) -> list[ToolCall]:
    """Return the calls that a text holds: JSON objects with a `name`, in order; in time linear in its length.

    Objects inside of others do not count. The search ends after 64 braces that begin no JSON object.
    """
    calls = []
    for found in _objects(text):
        name = found.get("name")
        if isinstance(name, str):
            arguments = found.get("arguments", found.get("parameters"))
            # Some models write the arguments as a text of JSON, as APIs do.
            as_text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
            calls.append(ToolCall(name, as_text))
    return calls


def _objects(text: str) -> Iterator[dict[str, Any]]:
    decoder = json.JSONDecoder()
    failures = 0
    start = text.find("{")
    while start >= 0 and failures < _MOST_FAILURES:
        try:
            found, start = decoder.raw_decode(text, start)
            yield found
        except (ValueError, RecursionError):
            failures += 1
            start += 1
        start = text.find("{", start)
