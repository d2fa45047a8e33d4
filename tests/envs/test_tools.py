"""Actions as tools: schemas, calls, and how completions with calls are read."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdar_envs.errors import InvalidOption
from sdar_envs.prompt import (
    DEFAULT_STYLE,
    STYLES,
    PromptStyle,
    parse_completion,
    render_completion,
    render_messages,
    terse,
    with_action_format,
)
from sdar_envs.tools import ACT, ANSWER, CLICK, FIND, SEARCH, ToolCall, calls_in, command_of, tool_schemas

JSON = {suite: with_action_format(style, "json") for suite, style in STYLES.items()}
TOOLS = {suite: with_action_format(style, "tools") for suite, style in STYLES.items()}


def call(name="act", **arguments):
    return json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)


def test_schemas():
    (schema,) = tool_schemas(STYLES["alfworld"].tools)
    assert schema == {
        "type": "function",
        "function": {
            "name": "act",
            "description": ACT.description,
            "parameters": {
                "type": "object",
                "properties": {"command": {"type": "string", "description": ACT.meaning}},
                "required": ["command"],
                "additionalProperties": False,
            },
        },
    }
    names = {suite: [tool.name for tool in style.tools] for suite, style in STYLES.items()}
    assert names == {"alfworld": ["act"], "webshop": ["search", "click"], "search_qa": ["search", "answer"]}
    assert DEFAULT_STYLE.tools == (ACT,)


@pytest.mark.parametrize(
    ("tool", "argument", "command"),
    [(ACT, " go to desk 1 ", "go to desk 1"), (FIND, "a]b", "search[a]b]"), (CLICK, "< prev", "click[< prev]")],
)
def test_a_tool_and_its_command(tool, argument, command):
    assert tool.command(argument) == command
    assert tool.argument(command) == argument.strip()
    assert command_of(ToolCall(tool.name, json.dumps({tool.parameter: argument})), [tool]) == command


@pytest.mark.parametrize(
    ("name", "arguments", "command"),
    [
        ("answer", '{"text": "1912"}', "answer[1912]"),
        ("answer", '{"text": 1912}', "answer[1912]"),
        ("answer", '{"text": true}', None),
        ("answer", '{"text": null}', None),
        ("answer", '{"text": ["a"]}', None),
        ("answer", '{"text": "a", "why": "b"}', None),
        ("answer", '{"answer": "a"}', None),
        ("answer", "{}", None),
        ("answer", "", None),
        ("answer", "a", None),
        ("answer", '"a"', None),
        ("answer", '{"text": "\\ud800"}', None),
        ("answer", "[" * 100_000, None),
        ("reply", '{"text": "a"}', None),
        ("Answer", '{"text": "a"}', None),
    ],
)
def test_arguments(name, arguments, command):
    assert command_of(ToolCall(name, arguments), (SEARCH, ANSWER)) == command


def test_calls_in_a_text():
    text = f'I think {{ is odd. {{"a": 1}} {call(command="look")} then {call("b", x="{}")}, {{"c": {call()}}}'
    assert [(found.name, json.loads(found.arguments)) for found in calls_in(text)] == [
        ("act", {"command": "look"}),
        ("b", {"x": "{}"}),
    ]
    assert calls_in('{"name": "act", "parameters": "{\\"command\\": \\"look\\"}"}') == [
        ToolCall("act", '{"command": "look"}')
    ]
    assert calls_in('```json\n{"name": 3}\n```') == []


@pytest.mark.parametrize(
    ("suite", "text", "wanted"),  # action, well formed, readable
    [
        ("alfworld", f"<think>T</think>{call(command='Look ')}", ("look", True, True)),
        ("alfworld", f"<think>T</think>\n```json\n{call(command='look')}\n```", ("look", True, True)),
        ("alfworld", f"<think>{call(command='go')}</think>{call(command='look')}", ("look", True, True)),
        ("alfworld", f"<think>T</think>{call(command='look')}{call(command='go')}", ("look", True, True)),
        ("alfworld", f"<think>never ended {call(command='look')}", ("", False, False)),
        ("alfworld", call(command="look"), ("look", False, True)),
        ("alfworld", f"<think>红</think>{call(command='look')}", ("look", False, True)),
        ("alfworld", "<think>T</think><action>look</action>", ("", False, False)),
        ("alfworld", f"<think>T</think>{call(cmd='look')}{call(command='look')}", ("", False, False)),
        ("webshop", f"<think>T</think>{call('click', element='Buy Now')}", ("click[buy now]", True, True)),
        ("webshop", f"<think>T</think>{call('act', command='click[x]')}", ("", False, False)),
        ("search_qa", call("search", query="Rome"), ("search[Rome]", True, True)),
        ("search_qa", call("search", query="a") + call("answer", text="b"), ("", False, False)),
        ("search_qa", call("answer", text=7), ("answer[7]", True, True)),
    ],
)
def test_json_is_read_by_the_rules_of_tags(suite, text, wanted):
    parsed = parse_completion(text, JSON[suite])
    assert (parsed.action, parsed.is_well_formed, parsed.is_readable) == wanted


def test_native_calls():
    look = ToolCall("act", '{"command": "Look"}')
    parsed = parse_completion("I look.", TOOLS["alfworld"], tool_calls=[look])
    assert (parsed.action, parsed.is_well_formed, parsed.reasoning) == ("look", True, "I look.")
    parsed = parse_completion("", TOOLS["alfworld"], reasoning=" Why. ", tool_calls=[look])
    assert (parsed.is_well_formed, parsed.reasoning) == (True, "Why.")
    # A server that reads no calls leaves them in the text.
    parsed = parse_completion(f"<tool_call>\n{call(command='look')}\n</tool_call>", TOOLS["alfworld"])
    assert (parsed.action, parsed.is_well_formed) == ("look", True)
    parsed = parse_completion("Nothing to do.", TOOLS["alfworld"])
    assert (parsed.action, parsed.is_well_formed, parsed.is_readable) == ("", False, False)
    two = [ToolCall("search", '{"query": "a"}'), ToolCall("search", '{"query": "b"}')]
    assert parse_completion("", TOOLS["search_qa"], tool_calls=two).is_readable is False
    assert parse_completion("", TOOLS["webshop"], tool_calls=two).action == "search[a]"
    chinese = ToolCall("act", '{"command": "看"}')
    assert not parse_completion("", TOOLS["alfworld"], tool_calls=[chinese]).is_well_formed
    # Calls that were not asked for are no answer.
    assert parse_completion("", STYLES["alfworld"], tool_calls=[look]).is_readable is False


@given(st.text(), st.sampled_from([*JSON.values(), *TOOLS.values()]), st.text(), st.text())
def test_any_completion_is_read(text, style, name, arguments):
    assert isinstance(parse_completion(text, style, tool_calls=[ToolCall(name, arguments)]).action, str)
    assert isinstance(parse_completion('{"name": "act", ' + text, style).action, str)


@pytest.mark.parametrize("part", ["{", '{"a":', '{"name":"act",', "{}", '"{', "<think>{"])
def test_reading_takes_linear_time(part):
    started = time.process_time()
    parse_completion(part * (400_000 // len(part)), JSON["alfworld"])
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    ("suite", "action"),
    [
        ("alfworld", 'go to "desk" 1'),
        ("webshop", "search[a {b}]"),
        ("webshop", "click[< prev]"),
        ("search_qa", "answer[]]"),
    ],
)
def test_a_script_writes_what_is_read(suite, action):
    for style in (JSON[suite], TOOLS[suite]):
        parsed = parse_completion(render_completion(style, action, "So."), style)
        assert (parsed.action, parsed.is_well_formed, parsed.reasoning) == (action, True, "So.")


def test_prompts_ask_for_the_format():
    def asked(style):
        return render_messages(style, "Do it.", [], "A room.", ["look"])[0]["content"].rpartition("\n\n")[2]

    assert asked(JSON["alfworld"]) == (
        "First reason step by step inside <think>...</think>. Then give exactly one JSON object that holds the "
        'command: {"name": "act", "arguments": {"command": "..."}}'
    )
    assert asked(JSON["search_qa"]).splitlines() == [
        "First reason step by step inside <think>...</think>. Then give exactly one of these JSON objects, once:",
        '{"name": "search", "arguments": {"query": "..."}}',
        '{"name": "answer", "arguments": {"text": "..."}}',
    ]
    assert 'click[...] is written {"name": "click", "arguments": {"element": "..."}}' in asked(JSON["webshop"])
    assert asked(TOOLS["search_qa"]) == "First reason step by step. Then call exactly one tool, once."


def test_styles_in_words_of_their_own_keep_their_format():
    assert with_action_format(DEFAULT_STYLE, None) is DEFAULT_STYLE
    with pytest.raises(InvalidOption, match="words of its own"):
        with_action_format(terse(DEFAULT_STYLE), "json")
    with pytest.raises(InvalidOption, match="tools is empty"):
        PromptStyle("", tools=())
