import dataclasses
import json
import sys
import time

import pytest
from helpers.toy import CountingEnv
from hypothesis import given
from hypothesis import strategies as st

from sdar_envs.core import Task
from sdar_envs.errors import CorruptData, InvalidOption, MissingData, UnknownName
from sdar_envs.prompt import (
    DEFAULT_STYLE,
    PARITY_STYLES,
    STYLES,
    UNREADABLE,
    ParsedCompletion,
    PromptStyle,
    Turn,
    parse_completion,
    prompt_parts,
    render_completion,
    render_messages,
    resolve_style,
    style_for,
    style_of,
    terse,
)

ALFWORLD = STYLES["alfworld"]
WEBSHOP = STYLES["webshop"]
SEARCH = PromptStyle(
    role="You answer questions and can search.",
    action_tags=("search", "answer"),
    tag_is_command=True,
    allow_repeats=False,
    require_reasoning=False,
    refuse_cjk=False,
    list_commands=False,
)
ROOM = "You are in the middle of a room.\n\nYour task is to: put a hot apple in fridge."
TASK = "put a hot apple in fridge."

FIRST = f"""{ALFWORLD.role}

Observation:
You are in the middle of a room.

Your task is to: put a hot apple in fridge.

Commands you can give now:
go to desk 1
look

First reason step by step inside <think>...</think>. Then give exactly one command inside <action>...</action>."""

THIRD = f"""{ALFWORLD.role}

Your task: put a hot apple in fridge.

Steps taken so far: 3. The last 2:
Turn 2, observation: You arrive at desk 1.
Turn 2, action: take apple 1 from desk 1
Turn 3, observation: You pick up the apple 1 from the desk 1.
Turn 3, action: go to microwave 1

Observation now, at turn 4:
You arrive at microwave 1.

Commands you can give now:
heat apple 1 with microwave 1

First reason step by step inside <think>...</think>. Then give exactly one command inside <action>...</action>."""

HISTORY = [
    Turn(ROOM, "go to desk 1"),
    Turn("You arrive at desk 1.", "take apple 1 from desk 1"),
    Turn("You pick up the apple 1 from the desk 1.", "go to microwave 1"),
]


def content(style=ALFWORLD, history=(), observation="Nothing happens.", commands=(), **options):
    messages = render_messages(style, TASK, history, observation, commands, **options)
    assert [message["role"] for message in messages] == ["user"]
    return messages[0]["content"]


# -- prompts --------------------------------------------------------------------------------


def test_first_turn():
    assert render_messages(ALFWORLD, TASK, [], ROOM, ["go to desk 1", "help", "look"]) == [
        {"role": "user", "content": FIRST}
    ]


def test_later_turn():
    commands = ["heat apple 1 with microwave 1", "help"]
    assert content(history=HISTORY, observation="You arrive at microwave 1.", commands=commands) == THIRD


def test_second_turn_counts_in_the_singular_and_states_the_task():
    text = content(history=HISTORY[:1], observation="You arrive at desk 1.")
    assert "Your task: put a hot apple in fridge.\n\nSteps taken so far: 1.\nTurn 1, observation: You are" in text
    assert "The last one:" in content(history=HISTORY, history_length=1)


@pytest.mark.parametrize(
    ("observation", "lines"),
    [(ROOM, 0), (ROOM.upper(), 0), (ROOM.replace("hot apple", "hot\n apple"), 0), ("Room.", 1)],
)
def test_the_task_is_said_once(observation, lines):
    assert content(observation=observation).count("Your task: ") == lines


@given(st.integers(0, 12), st.integers(0, 12))
def test_history_window(length, taken):
    history = [Turn(f"saw({i})", f"did({i})") for i in range(taken)]
    text = content(history=history, history_length=length)
    shown = [i for i in range(taken) if f"saw({i})" in text]
    assert shown == list(range(max(0, taken - length), taken))
    assert shown == [i for i in range(taken) if f"did({i})" in text]
    assert (f"Steps taken so far: {taken}." in text) == (taken > 0)


def test_commands_may_be_hidden_or_left_out():
    style = dataclasses.replace(DEFAULT_STYLE, hidden_commands=frozenset({"look"}))
    assert "Commands you can give now:\ngo\nhelp\n\n" in content(style, commands=["go", "help", "look"])
    assert "Commands" not in content(style, commands=["look"])
    assert "Commands" not in content(SEARCH, commands=["go"])


def test_shopping_says_the_instruction_once_and_lists_every_command():
    instruction = "Find me a red hat, and price lower than 20.00 dollars"
    page = f"Instruction: [SEP] {instruction} [SEP] Back to Search [SEP] < Prev [SEP] color [SEP] red [SEP] Buy Now"
    commands = ["click[< prev]", "click[back to search]", "click[buy now]", "click[red]"]
    start = f"WebShop [SEP] Instruction: [SEP] {instruction} [SEP] Search"
    (message,) = render_messages(WEBSHOP, instruction, [Turn(start, "search[red hat]")], page, commands)
    assert message["content"].count(instruction) == 1
    assert f"Your task: {instruction}\n" in message["content"]
    assert "observation: WebShop [SEP] Search\n" in message["content"]
    assert "turn 2:\nBack to Search [SEP] < Prev" in message["content"]
    assert "\n".join(["Commands you can give now:", *commands]) in message["content"]


def test_an_instruction_with_braces_is_cut_out_of_a_rich_page():
    page = "Instruction: \na {instruction} hat\n[button] Search [button_]\n"
    (message,) = render_messages(WEBSHOP, "a {instruction} hat ", [], page, [])
    assert "Your task: a {instruction} hat" in message["content"]
    assert "Observation:\n[button] Search [button_]" in message["content"]


def test_text_that_only_quotes_the_instruction_stays():
    page = "Instruction: [SEP] a hat [SEP] Back to Search [SEP] a hat [SEP] Buy Now"
    (message,) = render_messages(WEBSHOP, "a hat", [], page, [])
    assert "Observation:\nBack to Search [SEP] a hat [SEP] Buy Now" in message["content"]
    assert "Your task: a hat\n" in message["content"]


def test_a_style_without_frames_shows_observations_as_they_are():
    page = "Instruction: [SEP] a hat [SEP] Buy Now"
    style = dataclasses.replace(WEBSHOP, instruction_frames=())
    (message,) = render_messages(style, "a hat", [Turn(page, "look")], page, [])
    assert message["content"].count(page) == 2


def test_an_option_in_chinese_can_be_clicked():
    assert parse_completion("<think>红色 is red</think><action>click[红色]</action>", WEBSHOP).is_well_formed
    assert render_completion(WEBSHOP, "click[红色]", "红色 is red.")
    assert not parse_completion("<think>红色</think><action>look</action>", ALFWORLD).is_well_formed


def test_shopping_drops_its_history_beyond_13000_characters():
    def shown(length):
        history = [Turn("x" * length, "click[next >]")]
        return render_messages(WEBSHOP, "a hat", history, "a hat", [])[0]["content"]

    longest = 13_000 - len(shown(0))
    assert len(shown(longest)) == 13_000
    assert "xxx" not in shown(longest + 1)


def test_shopping_commands_are_read_in_lower_case():
    parsed = parse_completion("<think>it fits</think><action> Click[Buy Now] </action>", WEBSHOP)
    assert parsed == ParsedCompletion("click[buy now]", True, "it fits")


def test_system_message_comes_first():
    messages = render_messages(DEFAULT_STYLE, TASK, [], ROOM, [], system="Be brief.")
    assert messages[0] == {"role": "system", "content": "Be brief."}
    assert [message["role"] for message in messages] == ["system", "user"]


def test_two_tags():
    assert content(SEARCH).endswith("Then give exactly one of <search>...</search> or <answer>...</answer>, once.")


def test_a_long_prompt_drops_its_history():
    history = [Turn("x" * 100, "go")]
    whole = content(history=history)
    style = dataclasses.replace(ALFWORLD, max_characters=len(whole))
    assert content(style, history=history) == whole
    short = content(dataclasses.replace(style, max_characters=len(whole) - 1), history=history)
    assert "x" * 100 not in short
    assert "Steps taken so far: 1.\n\nObservation now, at turn 2:" in short


def test_a_negative_window_is_refused():
    with pytest.raises(InvalidOption, match="history_length is -1"):
        content(history_length=-1)


ACTIONS = st.text(st.characters(codec="utf-8", exclude_characters="<>"), max_size=40)


# -- completions ----------------------------------------------------------------------------

GOOD = "<think>It is cold.</think><action> Go To desk 1\n</action>"


@pytest.mark.parametrize(
    ("text", "action", "is_well_formed", "reasoning"),
    [
        (GOOD, "go to desk 1", True, "It is cold."),
        (GOOD.replace("action", "ACTION"), "go to desk 1", True, "It is cold."),
        (GOOD + "<action>look</action>", "go to desk 1", True, "It is cold."),
        ("</action>" + GOOD, "go to desk 1", True, "It is cold."),
        ("<think></think><action></action>", "", True, ""),
        ("<action>look</action>", "look", False, ""),
        ("<THINK>a</THINK><action>look</action>", "look", False, ""),
        ("<think>中</think><action>look</action>", "look", False, "中"),
        ("<think>é ﷽ あ</think><action>look</action>", "look", True, "é ﷽ あ"),
        # The thought is no answer, nor is what stands before it.
        ("<think>I must put it in <action> tags.</think><action>look</action>", "look", True, None),
        ("<think>Not <action>inventory</action>.</think><action>look</action>", "look", True, None),
        ("<action>inventory</action><think>No.</think><action>look</action>", "look", True, "No."),
        ("<think>a</think>b</think><action>look</action>", "look", True, "a"),
        # Quotes, earlier turns, mentioned tags and nothing.
        ("<think>a</think>I use `<action>help</action>`: <action>look</action>", "look", True, "a"),
        ('<think>a</think>Not "<action>help</action>" but <action>look</action>', "look", True, "a"),
        ("<think>a</think>Turn 2, action: <action>help</action>\n<action>look</action>", "look", True, "a"),
        ("<think>a</think>In <action> tags: <action>look</action>", "look", True, "a"),
        ("<think>a</think>In <action></action> tags: <action>look</action>", "look", True, "a"),
        # Nothing but a quotation is the answer.
        ("<think>a</think>`<action>look</action>`", "look", True, "a"),
        ("<think>a</think>Turn 2, action: <action>look</action>", "look", True, "a"),
        ("<think>a <think>b</think> c</think><action>x</action>", "x", True, "a <think>b"),
    ],
)
def test_parsing(text, action, is_well_formed, reasoning):
    parsed = parse_completion(text, ALFWORLD)
    if reasoning is None:
        reasoning = text[len("<think>") : text.index("</think>")]
    assert parsed == ParsedCompletion(action, is_well_formed, reasoning)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n\t ",
        "a\n" + "B" * 500 + "\r\n",
        "<think>a</think>\nLook\n\n",
        "<think>a</think>\n<action>look",
        "<think>a</think>\nlook</action>",
        "<think>a <action>look</action>",
        "<action>look</action><think>a",
        "<action>look</action><think>a</think>",
        "<think>a</think><action>look</action><think>or",
        "</think> backwards <think><action>look</action>",
    ],
)
def test_a_completion_without_an_answer_gives_no_action(text):
    parsed = parse_completion(text, ALFWORLD)
    assert (parsed.action, parsed.is_well_formed, parsed.is_readable) == ("", False, False)


def test_the_history_shows_that_an_answer_was_unreadable():
    turns = [
        parse_completion(text, ALFWORLD).turn(f"page {i}")
        for i, text in enumerate(["<think>go to desk 1", "<think>a</think>look", GOOD])
    ]
    assert [turn.action for turn in turns] == [UNREADABLE, UNREADABLE, "go to desk 1"]
    text = content(history=turns[:2])
    assert f"Turn 2, observation: page 1\nTurn 2, action: {UNREADABLE}" in text
    assert "go to desk" not in text
    turn = parse_completion("<search>a</search><search>b</search>", SEARCH).turn("page")
    assert f"Turn 1, action: {UNREADABLE}" in content(SEARCH, history=[turn])


def test_an_empty_action_is_readable():
    assert parse_completion("<think>a</think><action></action>", ALFWORLD).turn("page") == Turn("page", "")


def test_reasoning_that_came_apart_is_the_thought_and_never_joined():
    parsed = parse_completion("<action>look</action>", ALFWORLD, reasoning=" I think <action>inventory</action> ")
    assert parsed == ParsedCompletion("look", True, "I think <action>inventory</action>")
    # The server has taken out what the template opened.
    assert parse_completion("<action>look</action>", ALFWORLD, prefilled="<think>", reasoning="a").action == "look"
    assert not parse_completion("look", ALFWORLD, reasoning="<action>look</action>").is_readable
    assert not parse_completion("<action>look</action>", ALFWORLD, reasoning="中").is_well_formed
    style = PARITY_STYLES["verl-agent/alfworld"]
    parsed = parse_completion("<action>look</action>", style, reasoning="<action>inventory</action>")
    assert parsed == ParsedCompletion("look", False, "<action>inventory</action>")


THOUGHT = st.lists(
    st.sampled_from(["<action>", "</action>", "<think>", "<search>", "</search>", "inventory", "`", "\n", "Turn 1, "])
).map("".join)
MENTION = st.sampled_from(
    [
        "I go on. ",
        "In `<action>x</action>` tags. ",
        '"<action>x</action>" ',
        "\u00ab<action>x</action>\u00bb ",
        "<action></action>",
        "An <action> tag. ",
        "Turn 3, action: <action>x</action>\n",
    ]
)


@given(st.text(), THOUGHT, st.lists(MENTION, max_size=4), ACTIONS, st.text())
def test_what_stands_after_the_thought_is_the_answer(before, thought, mentions, action, after):
    before, after = before.replace("<", ""), after.replace("<", "")
    action = action.strip() or "wait"
    text = f"{before}<think>{thought}</think>{''.join(mentions)}\n<action>{action}</action>\n{after}"
    parsed = parse_completion(text)
    assert (parsed.action, parsed.is_well_formed) == (action, True)
    # The same, if the template or the server has the thought.
    rest = text.partition("<think>")[2]
    assert parse_completion(rest, prefilled="<think>") == parse_completion(f"<think>{rest}")
    answer = rest.rpartition("</think>")[2]
    apart = parse_completion(answer, reasoning=thought)
    assert (apart.action, apart.is_well_formed, apart.reasoning) == (action, True, thought.strip())


@given(THOUGHT, st.sampled_from(["", "<think>a</think><action>look</action>"]), st.sampled_from([ALFWORLD, SEARCH]))
def test_a_thought_that_does_not_end_gives_no_action(thought, before, style):
    assert not parse_completion(f"{before}<think>{thought}", style).is_readable
    assert not parse_completion(thought, style, prefilled="<think>").is_readable


def test_parity_styles_read_as_verl_agent():
    alfworld, webshop = (resolve_style(f"verl-agent/{suite}") for suite in ("alfworld", "webshop"))
    assert dataclasses.replace(alfworld, parse=None) == ALFWORLD
    for text, action, is_well_formed in [
        ("<think>a</think><action> Look </action>", "look", True),
        ("<think>I must put it in <action> tags.</think><ACTION>Look</ACTION>", "tags.</think><action>look", True),
        ("<action>Look</action></think><think>", "look", True),
        ("<action>look</action>", "look", False),
        ("<THINK>a</THINK><action>look</action>", "look", False),
        ("<think>中</think><action>look</action>", "look", False),
        ("</action><think>a</think><action>look", "", True),
        ("<think>a</think>" + "B" * 50, "b" * 30, False),
        ("", "", False),
    ]:
        parsed = parse_completion(text, alfworld)
        assert (parsed.action, parsed.is_well_formed) == (action, is_well_formed)
        assert parsed.turn("page").action == action
        if "<action>" in text.lower():
            assert parse_completion(text, webshop) == parsed
    assert parse_completion("B" * 50, webshop).turn("page").action == "b" * 20


def test_case_is_kept_by_default():
    assert parse_completion(GOOD).action == "Go To desk 1"


def test_a_prefilled_tag_counts():
    text = GOOD.removeprefix("<think>")
    assert not parse_completion(text, ALFWORLD).is_well_formed
    assert parse_completion(text, ALFWORLD, prefilled="<think>") == parse_completion(GOOD, ALFWORLD)
    assert parse_completion("", ALFWORLD, prefilled="<think>").action == ""


@pytest.mark.parametrize(
    ("text", "action", "is_well_formed"),
    [
        ("<search> who? </search>", "search[who?]", True),
        ("<SEARCH>q</SEARCH>", "search[q]", True),
        ("<think>x</think><answer>Paris</answer>", "answer[Paris]", True),
        ("<search></search>", "search[]", True),
        ("<search>a]b[</search>", "search[a]b[]", True),
        ("<answer>x</answer><search>a</search>", "", False),
        ("<search>a</search><search>b</search>", "", False),
        ("<think>maybe <answer></think><answer>y</answer>", "answer[y]", True),
        ("<think>x</think>`<search>a</search>` <answer>y</answer>", "answer[y]", True),
        ("<think>x</think><search>a <answer>y</answer>", "", False),
        ("<answer>x", "", False),
        ("search[a]", "", False),
        ("<\u017fearch>q</\u017fearch>", "", False),
    ],
)
def test_two_tags_of_which_one_is_wanted_once(text, action, is_well_formed):
    parsed = parse_completion(text, SEARCH)
    assert (parsed.action, parsed.is_well_formed) == (action, is_well_formed)


PIECES = st.sampled_from(["<think>", "</think>", "<action>", "</action>", "<search>", "</answer>", "<", ">", "/", "\n"])


@given(st.lists(PIECES | st.text() | st.characters(), max_size=20).map("".join), st.sampled_from([ALFWORLD, SEARCH]))
def test_any_text_is_answered(text, style):
    parsed = parse_completion(text, style)
    assert isinstance(parsed.action, str)
    assert isinstance(parsed.is_well_formed, bool)
    if not parsed.is_readable:
        assert not parsed.is_well_formed
        assert parsed.action == ""


@given(st.lists(PIECES | st.sampled_from("abc")).map("".join), st.sampled_from(["", "<think>"]))
def test_no_action_is_taken_from_a_thought(text, prefilled):
    answer = (prefilled + text).rpartition("</think>")[2]
    parsed = parse_completion(text, prefilled=prefilled)
    assert parsed.action in answer
    if "<think>" in answer:
        assert (parsed.is_readable, parsed.is_well_formed) == (False, False)


@pytest.mark.parametrize(
    "piece", ["<think>", "<action>", "</action>", "<act", "<", "\n", " ", "<action></action>", "a"]
)
@pytest.mark.parametrize("style", [ALFWORLD, SEARCH])
def test_a_megabyte_takes_no_time(piece, style):
    text = piece * (1_000_000 // len(piece))
    start = time.process_time()
    parse_completion(text, style)
    # Linear time is milliseconds; quadratic time would be hours.
    assert time.process_time() - start < 10.0


@given(ACTIONS, ACTIONS, st.sampled_from([ALFWORLD, DEFAULT_STYLE]))
def test_a_rendered_completion_reads_back(action, reasoning, style):
    if style.refuse_cjk and any("\u4e00" <= c <= "\u9fff" for c in action + reasoning):
        with pytest.raises(InvalidOption, match="does not survive the format"):
            render_completion(style, action, reasoning)
        return
    parsed = parse_completion(render_completion(style, action, reasoning), style)
    expected = action.strip().lower() if style.lowercase else action.strip()
    assert parsed == ParsedCompletion(expected, True, reasoning.strip())


def test_rendering_refuses_what_would_not_read_back():
    assert render_completion(SEARCH, "answer[4]", "2 + 2") == "<think>2 + 2</think>\n<answer>4</answer>"
    for style, action, reasoning in [
        (ALFWORLD, "look</action>", ""),
        (ALFWORLD, "look", "the tag </think> ends it"),
        (SEARCH, "4", ""),
    ]:
        with pytest.raises(InvalidOption, match="does not survive the format"):
            render_completion(style, action, reasoning)


def test_styles_are_read_only_and_name_suites():
    assert set(STYLES) >= {"alfworld"}
    with pytest.raises(TypeError):
        STYLES["x"] = DEFAULT_STYLE


def test_parts_are_what_is_joined():
    history = [Turn("a room", "search[x]"), Turn("a page", "search[y]")]
    arguments = (SEARCH, "who?", history, "a text", [])
    parts = prompt_parts(*arguments, history_length=1, system="Be brief.")
    assert parts.messages() == render_messages(*arguments, history_length=1, system="Be brief.")
    assert (parts.shown_turns, dataclasses.replace(parts, history_length=9).shown_turns) == (1, 2)
    # As the model wrote it.
    assert parts.past[0].action == "<search>x</search>"
    whole = parts.messages(["one", "two"])[1]["content"]
    assert "Your task: who?\n\none\n\ntwo\n\nSteps taken so far: 2." in whole
    assert whole.replace("one\n\ntwo\n\n", "") == parts.messages()[1]["content"]


def test_a_terse_prompt_is_the_same_without_role_and_format():
    arguments = ("put a mug in desk.", [Turn("You see a desk 1.", "go to desk 1")], "You arrive.", ["look", "help"])
    full = render_messages(ALFWORLD, *arguments)[0]["content"].split("\n\n")
    short = render_messages(terse(ALFWORLD), *arguments)[0]["content"].split("\n\n")
    assert short == full[1:-1]
    assert full[0] == ALFWORLD.role
    assert "<think>" in full[-1]
    text = "<think>I go.</think>\n<action>Look</action>"
    assert parse_completion(text, terse(ALFWORLD)) == parse_completion(text, ALFWORLD)


FILE_STYLE = {"role": "You sort numbers.", "action_tags": ["move", "stop"], "lowercase": True, "max_characters": 900}


def test_a_style_is_found_by_suite_import_path_or_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "my_prompts.py").write_text(
        "from sdar_envs.prompt import PromptStyle\nTERSE = PromptStyle(role='Sort.')\nNUMBER = 3\n"
        "def parse(text):\n    return text\n"
    )
    (tmp_path / "sorting.json").write_text(json.dumps(FILE_STYLE))
    (tmp_path / "sorting.yaml").write_text(
        "role: You sort numbers.\naction_tags: [move, stop]\nlowercase: true\nmax_characters: 900\n"
    )
    (tmp_path / "parsed.yml").write_text("role: ''\nhidden_commands: [help]\nparse: my_prompts:parse\n")
    assert resolve_style("alfworld") is ALFWORLD
    assert resolve_style("default") is DEFAULT_STYLE
    assert resolve_style("my_prompts:TERSE") == PromptStyle(role="Sort.")
    expected = PromptStyle("You sort numbers.", ("move", "stop"), lowercase=True, max_characters=900)
    assert resolve_style("sorting.json") == resolve_style(str(tmp_path / "sorting.yaml")) == expected
    parsed = resolve_style("parsed.yml")
    assert parsed.hidden_commands == {"help"}
    assert parsed.parse("as it is") == "as it is"
    with pytest.raises(InvalidOption, match=r"my_prompts:NUMBER is 3 \(int\); wanted a sdar_envs\.PromptStyle"):
        resolve_style("my_prompts:NUMBER")
    sys.modules.pop("my_prompts")


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("alfword", UnknownName, "Did you mean 'alfworld'"),
        ("no_such_module:STYLE", UnknownName, "cannot be imported"),
        ("missing.yaml", MissingData, "no prompt style file 'missing.yaml'"),
    ],
)
def test_an_unknown_style_says_what_there_is(name, error, message):
    with pytest.raises(error, match=message):
        resolve_style(name)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ("rule: Sort.", UnknownName, "'rule'; .*Did you mean 'role'"),
        ("lowercase: true", InvalidOption, "has no 'role'"),
        ("role: [a]", InvalidOption, "role in .* is .*; wanted text"),
        ("role: ''\nlowercase: 1", InvalidOption, "lowercase in .* is 1; wanted true or false"),
        ("role: ''\naction_tags: go", InvalidOption, "wanted a list of texts"),
        ("role: ''\naction_tags: []", InvalidOption, "wanted a tuple of tags"),
        ("role: ''\naction_tags: ['']", InvalidOption, "action_tags holds ''; wanted names"),
        ("role: ''\naction_tags: [<do>]", InvalidOption, "action_tags holds '<do>'; wanted names"),
        ("role: ''\nmax_characters: -5", InvalidOption, "max_characters is -5; wanted 1 or more"),
        ("role: ''\nparse: os:sep", InvalidOption, "parse is '/'; wanted a function"),
        ("role: ''\nmax_characters: many", InvalidOption, "wanted a number of characters"),
        ("role: ''\nparse: 3", InvalidOption, "wanted the module:name of a function"),
        ("- role", CorruptData, "wanted a mapping"),
        ("role: [", CorruptData, "cannot be read"),
    ],
)
def test_a_wrong_style_file_is_refused_by_field(tmp_path, content, error, message):
    (tmp_path / "style.yaml").write_text(content)
    with pytest.raises(error, match=message):
        resolve_style(str(tmp_path / "style.yaml"))


def test_a_style_file_that_is_based_on_itself_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "style.yaml").write_text("base: other.yaml")
    (tmp_path / "other.yaml").write_text(f"base: {tmp_path / 'style.yaml'}")
    with pytest.raises(InvalidOption, match=r"style\.yaml is based on itself"):
        resolve_style("style.yaml")


def test_a_style_file_can_leave_out_the_templates_of_its_base(tmp_path):
    base = tmp_path / "base.yaml"
    base.write_text("base: alfworld\ntemplates: {first: 'Do {{ task }}'}")
    (tmp_path / "style.yaml").write_text(f"base: {base}\ntemplates: null")
    assert resolve_style(str(tmp_path / "style.yaml")) == ALFWORLD


def test_an_environments_own_style_comes_before_its_suites():
    task = Task("alfworld/train/0001", "acme/Own-v0", "train", "t", "Do it.")
    env = CountingEnv()
    assert style_of(env, task) is ALFWORLD
    assert style_of(env, dataclasses.replace(task, suite="acme")) is DEFAULT_STYLE
    env.prompt_style = SEARCH
    assert style_of(env, task) is SEARCH
    env.prompt_style = "search_qa"
    with pytest.raises(
        InvalidOption, match=r"CountingEnv\.prompt_style is 'search_qa'; wanted a sdar_envs\.PromptStyle"
    ):
        style_of(env, task)
    with pytest.raises(InvalidOption, match=r"pass task\.suite"):
        style_for(task.id)


def test_paragraphs_can_follow_the_history():
    history = [Turn("a room", "search[x]"), Turn("a page", "search[y]")]
    parts = prompt_parts(SEARCH, "who?", history, "a text", [], history_length=1)
    plain = parts.messages()[0]["content"]
    after = parts.messages(["one", "two"], "history")[0]["content"]
    assert "<search>y</search>\n\none\n\ntwo\n\nObservation now, at turn 3:" in after
    assert after.replace("one\n\ntwo\n\n", "") == plain
    assert parts.messages([], "history") == parts.messages()
    first = prompt_parts(SEARCH, "who?", [], "a text", [])
    assert first.messages(["one"], "history") == first.messages(["one"])  # there is no history yet
    with pytest.raises(InvalidOption, match=r"after is 'tasks'; wanted .*Did you mean 'task'\?"):
        parts.messages(["one"], "tasks")
