"""Actions as tools, and tool calls as commands."""

from sdar_envs.tools.calls import (
    ACT,
    ANSWER,
    CLICK,
    FIND,
    SEARCH,
    ActionFormat,
    Tool,
    ToolCall,
    api_messages,
    assistant_message,
    calls_in,
    command_of,
    tool_schemas,
)

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
