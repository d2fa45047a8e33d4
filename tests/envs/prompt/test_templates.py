"""Prompt templates: slots, checks at load, and whole prompts of styles that have some."""

import json

import pytest
from helpers.toy import CountingEnv

from sdar_envs import ChatEpisode, PromptStyle, Turn, resolve_style
from sdar_envs.errors import CorruptData, InvalidOption, UnknownName
from sdar_envs.prompt import STYLES, PromptTemplates, prompt_parts, render_messages, terse, with_action_format

FIRST = "Goal: {{ task }}\nSee: {{ observation }}\nMay: {{ commands }}"
LATER = "{{ task }}|{{ steps_taken }}|{{ steps_shown }}|{{ history }}|{{ step }}|{{ observation }}|{{ commands }}"
STYLE = PromptStyle(
    "",
    hidden_commands=frozenset({"help"}),
    templates=PromptTemplates(
        FIRST,
        LATER,
        history_item="<{{ step }} {{ observation }} {{ action }} {{ result }}>",
        history_separator=";",
        command="'{{ command }}'",
        command_separator=", ",
    ),
)
HISTORY = [Turn("saw 1", "did 1"), Turn("saw 2", "did 2"), Turn("saw 3", "did 3")]
COMMANDS = ["go", "help", "look"]


def content(style=STYLE, history=(), observation="now", **options):
    (message,) = render_messages(style, "Do it.", history, observation, COMMANDS, **options)
    assert message["role"] == "user"
    return message["content"]


def test_the_first_turn_and_later_ones():
    assert content() == "Goal: Do it.\nSee: now\nMay: 'go', 'look'"
    assert content(history=HISTORY) == ("Do it.|3|2|<2 saw 2 did 2 saw 3>;<3 saw 3 did 3 now>|4|now|'go', 'look'")
    # Without a window there is no history to show.
    assert content(history=HISTORY, history_length=0) == content()


def test_one_template_may_serve_all_turns():
    text = "{% if history %}Before: {{ history }}. {% endif %}{{ observation }}"
    style = PromptStyle("", templates=PromptTemplates(text, history_item="{{ action }}", history_separator=", "))
    assert content(style) == "now"
    assert content(style, HISTORY) == "Before: did 2, did 3. now"


@pytest.mark.parametrize(
    "text", ["{{ task }}", "{% for x in range(9) %}", "{# gone #}", "\r\n{{", "\u2028}}{{ 7 * 7 }}"]
)
def test_what_fills_a_slot_is_data(text):
    style = PromptStyle("", templates=PromptTemplates("{{ observation }}", history_item="{{ observation }}"))
    assert content(style, observation=text) == text
    assert content(style, [Turn(text, text)], text) == text
    assert content(history=[Turn(text, text)], observation=text).count(text) == 4


def test_a_trailing_line_break_stays():
    assert content(PromptStyle("", templates=PromptTemplates("\n{{ observation }} \n"))) == "\nnow \n"


def test_equal_arguments_give_equal_prompts():
    assert {content(history=HISTORY) for _ in range(5)} == {content(history=HISTORY)}


@pytest.mark.parametrize(
    ("templates", "error", "match"),
    [
        ({"first": "{{ obervation }}"}, UnknownName, "first has a slot 'obervation'; .*Did you mean 'observation'"),
        ({"first": "", "command": "{{ action }}"}, UnknownName, "command has a slot 'action'; its slots are command"),
        ({"first": "{{ lipsum() }}"}, UnknownName, "a slot 'lipsum'"),
        ({"first": "{{ commands | random }}"}, InvalidOption, "No filter named 'random'"),
        ({"first": "{{ task"}, InvalidOption, "first cannot be read as Jinja2, in line 1"),
        ({"first": "a\n{% if %}"}, InvalidOption, "in line 2"),
        ({"first": "{{ task.nothing }}"}, InvalidOption, "first cannot be filled in"),
        ({"first": "{{ ''.__class__.__mro__ }}"}, InvalidOption, "cannot be filled in"),
        ({"first": "{{ 1 / 0 }}"}, InvalidOption, "ZeroDivisionError"),
        ({"first": "{% include 'x' %}"}, InvalidOption, "cannot be filled in"),
        ({"first": 3}, InvalidOption, "first is 3; wanted text"),
        ({"first": "", "later": "{{ histroy }}"}, UnknownName, "Did you mean 'history'"),
    ],
)
def test_a_wrong_template_is_refused_at_load(templates, error, match):
    with pytest.raises(error, match=match):
        PromptTemplates(**templates)


def test_what_fails_on_some_observations_says_so():
    style = PromptStyle("", templates=PromptTemplates("{{ observation }}{% if step > 3 %}{{ 1 / 0 }}{% endif %}", "x"))
    with pytest.raises(InvalidOption, match="cannot be filled in"):
        content(style, HISTORY, history_length=0)


def test_a_prompt_that_is_too_long_shows_no_history():
    style = PromptStyle("", templates=STYLE.templates, max_characters=80)
    assert content(style, HISTORY).startswith("Do it.|")
    assert content(style, [Turn("x" * 80, "a")]).startswith("Goal:")


def test_skills_stand_before_the_prompt_or_where_a_template_says():
    parts = prompt_parts(STYLE, "Do it.", HISTORY, "now", COMMANDS)
    assert parts.messages(["S1", "S2"])[0]["content"] == f"S1\n\nS2\n\n{parts.messages()[0]['content']}"
    style = PromptStyle("", templates=PromptTemplates("{{ task }}{% if skills %} [{{ skills }}]{% endif %}"))
    parts = prompt_parts(style, "Do it.", HISTORY, "now", COMMANDS)
    assert parts.messages(["S1"])[0]["content"] == "Do it. [S1]"
    assert parts.messages()[0]["content"] == "Do it."


def test_paragraphs_behind_the_history_stand_at_its_end():
    parts = prompt_parts(STYLE, "Do it.", HISTORY, "now", COMMANDS)
    plain = parts.messages()[0]["content"]
    after = parts.messages(["S1", "S2"], "history")[0]["content"]
    assert after.replace("\n\nS1\n\nS2", "") == plain
    assert after.index(HISTORY[-1].action) < after.index("S1") < after.rindex("now")
    # Where no history is shown, or where it is the beginning of the model's own message, they stand as others do.
    first = prompt_parts(STYLE, "Do it.", [], "now", COMMANDS)
    assert first.messages(["S1"], "history") == first.messages(["S1"])
    transcript = PromptStyle(
        "", templates=PromptTemplates("{{ task }}", "{{ task }} {{ history }}", is_transcript=True)
    )
    parts = prompt_parts(transcript, "Do it.", HISTORY, "now", COMMANDS)
    assert parts.messages(["S1"], "history") == parts.messages(["S1"])


def test_templates_say_their_own_format():
    with pytest.raises(InvalidOption, match="leave out terse"):
        terse(STYLE)
    with pytest.raises(InvalidOption, match="leave action_format out"):
        with_action_format(STYLE, "json")


def test_appended_turns():
    episode = ChatEpisode(CountingEnv(), style=STYLE, mode="appended")
    assert episode.reset(seed=0).messages[0]["content"].startswith("Goal: ")
    step = episode.step("x")
    assert step.new_messages[0]["content"] == f"{step.observation}\n\n'double', 'down', 'up'"


# -- files ----------------------------------------------------------------------------------


def test_a_file_may_have_a_base_and_templates(tmp_path):
    file = tmp_path / "style.yaml"
    file.write_text(
        "base: alfworld\nhistory_length: 5\nstop: [</action>]\n"
        "templates:\n  first: '{{ observation }}'\n  history_separator: ', '\n  is_transcript: false\n"
    )
    style = resolve_style(str(file))
    assert style.templates == PromptTemplates("{{ observation }}", history_separator=", ")
    assert (style.history_length, style.stop, style.lowercase) == (5, ("</action>",), True)
    assert style.hidden_commands == STYLES["alfworld"].hidden_commands
    file.write_text("templates: {first: ''}\n")
    assert resolve_style(str(file)) == PromptStyle("", templates=PromptTemplates(""))


def test_a_file_may_be_a_template(tmp_path):
    file = tmp_path / "style.jinja2"
    file.write_text("{{ task }}\n")
    assert resolve_style(str(file)) == PromptStyle("", templates=PromptTemplates("{{ task }}\n"))
    file.write_text("---\nbase: webshop\ntemplates:\n  command: '* {{ command }}'\n---\n--- {{ commands }}\n")
    style = resolve_style(str(file))
    assert style.templates == PromptTemplates("--- {{ commands }}\n", command="* {{ command }}")
    assert style.tools == STYLES["webshop"].tools


@pytest.mark.parametrize(
    ("content", "error", "match"),
    [
        ({"templates": {"frist": ""}}, UnknownName, "Did you mean 'first'"),
        ({"templates": {"later": ""}}, InvalidOption, "has no 'first'"),
        ({"templates": "x"}, InvalidOption, "wanted a mapping"),
        ({"templates": {"first": "", "is_transcript": 1}}, InvalidOption, "wanted true or false"),
        ({"templates": {"first": "{{ x }}"}}, UnknownName, r"in .*style\.json, the template first has a slot 'x'"),
        ({"base": "alfword"}, UnknownName, "Did you mean 'alfworld'"),
        ({"base": 3}, InvalidOption, "wanted the name of a prompt style"),
        ({"base": "alfworld", "action_format": "jsn"}, InvalidOption, "Did you mean 'json'"),
        ({"base": "alfworld", "history_length": -1}, InvalidOption, "wanted 0 or more"),
        ({"base": "alfworld", "stop": [""]}, InvalidOption, "empty string"),
        ({"base": "alfworld", "tools": []}, UnknownName, "a key 'tools'"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, content, error, match):
    (tmp_path / "style.json").write_text(json.dumps(content))
    with pytest.raises(error, match=match):
        resolve_style(str(tmp_path / "style.json"))


def test_a_template_file_with_wrong_fields(tmp_path):
    (tmp_path / "style.j2").write_text("---\n- base\n---\nx")
    with pytest.raises(CorruptData, match="wanted a mapping"):
        resolve_style(str(tmp_path / "style.j2"))
