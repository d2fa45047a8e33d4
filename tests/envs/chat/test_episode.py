"""`ChatEpisode`: episodes as chat, windowed and appended."""

import json
import random

import pytest
from helpers.toy import CountingEnv, Numbers

from sdar_envs import INFO_TYPES, ChatEpisode, PromptStyle, make_text_env, tasks
from sdar_envs.chat import Conversation
from sdar_envs.errors import EpisodeOver, InvalidOption, UnknownName
from sdar_envs.prompt import DEFAULT_STYLE, STYLES, ParsedCompletion, render_completion
from sdar_envs.tools import ToolCall, api_messages

SUITES = ["sdar/ALFWorld-v0", "sdar/WebShop-v0", "sdar/SearchQA-v0"]


def test_an_episode():
    episode = ChatEpisode(CountingEnv())
    step = episode.reset(task_id="toy/valid/0001")
    assert (step.action, step.reward, step.is_over, step.is_well_formed, step.is_action_valid) == (
        "",
        0.0,
        False,
        None,
        None,
    )
    assert step.messages[0]["content"].startswith(f"{DEFAULT_STYLE.role}\n\nObservation:\n{step.observation}")
    step = episode.step("<think>Up.</think><action>up</action>")
    assert (step.action, step.is_well_formed, step.is_action_valid) == ("up", True, True)
    step = episode.step("I'd rather not.")
    assert (step.action, step.is_well_formed, step.is_action_valid) == ("", False, False)
    assert "Turn 2, action: (no readable action)" in step.messages[0]["content"]
    step = episode.act("sideways")
    assert (step.action, step.is_well_formed, step.is_action_valid) == ("sideways", None, False)
    assert "Turn 3, action: sideways" in step.messages[0]["content"]
    while not step.is_over:
        step = episode.act("look")
    assert (step.ended, step.truncated, step.messages, step.new_messages) == (False, True, [], [])
    with pytest.raises(EpisodeOver, match="call reset"):
        episode.step("more")


def test_an_episode_that_is_won_is_ended():
    episode = ChatEpisode(CountingEnv())
    task = next(task for task in (Numbers().task("valid", i) for i in range(30)) if task.task_type == "count_up")
    episode.reset(task=task)
    step = episode.step("<think></think><action>up</action>")
    while not step.is_over:
        step = episode.step("<think></think><action>up</action>")
    assert (step.ended, step.reward, step.info["is_success"]) == (True, 1.0, True)


@pytest.mark.parametrize("env_id", SUITES)
@pytest.mark.parametrize("action_format", ["tags", "json"])
def test_an_appended_chat_only_grows_and_keeps_completions_as_they_are(env_id, action_format):
    episode = ChatEpisode(env_id, mode="appended", max_steps=6, system="Be brief.", action_format=action_format)
    rng = random.Random(3)
    for seed in range(4):
        step = episode.reset(seed=seed)
        assert [message["role"] for message in step.messages] == ["system", "user"]
        assert step.new_messages == step.messages
        chat = step.messages
        while not step.is_over:
            completion = rng.choice(
                [
                    render_completion(episode.style, "search[x]", "So."),
                    " \n<think>never ended",
                    "",
                    "<action>a</action><action>b",
                ]
            )
            step = episode.step(completion)
            if not step.is_over:
                added = [{"role": "assistant", "content": completion}, *step.new_messages]
                assert step.messages == chat + added
                assert [message["role"] for message in step.new_messages] == ["user"]
                chat = step.messages


@pytest.mark.parametrize("env_id", SUITES)
def test_what_an_appended_chat_says(env_id):
    windowed, appended = ChatEpisode(env_id), ChatEpisode(env_id, mode="appended")
    first = windowed.reset(seed=5)
    assert appended.reset(seed=5).messages == first.messages
    command = appended.env.oracle_plan()[0]
    completion = render_completion(windowed.style, command, "So.")
    later = windowed.step(completion).messages[0]["content"]
    step = appended.step(completion)
    assert (step.is_well_formed, step.is_action_valid) == (True, True)
    (new,) = step.new_messages
    # What the windowed prompt says between its history and the answer format.
    assert new["content"] in later
    assert new["content"].startswith("Observation now, at turn 2:\n")
    assert ("Commands you can give now:" in new["content"]) == appended.style.list_commands
    assert appended.style.role not in new["content"]
    assert "First reason" not in new["content"]
    assert completion not in new["content"]


def test_an_act_is_appended_in_the_answer_format():
    episode = ChatEpisode("sdar/SearchQA-v0", mode="appended")
    episode.reset(seed=0)
    assert episode.act("search[Rome]").messages[1] == {"role": "assistant", "content": "<search>Rome</search>"}


class Telltale(CountingEnv):
    def _extra_info(self):
        return {**super()._extra_info(), "golden_answers": ["CANARY"], "supporting_hit": "CANARY"}


@pytest.mark.parametrize("mode", ["windowed", "appended"])
def test_a_model_sees_a_whitelist_alone(mode):
    episode = ChatEpisode(Telltale(), mode=mode)
    steps = [episode.reset(seed=0), episode.step("x"), episode.act("up")]
    assert episode.env_info["golden_answers"] == ["CANARY"]
    for step in steps:
        assert set(step.info) == set(INFO_TYPES)
        shown = [step.messages, step.new_messages, dict(step.info), step.observation]
        assert "CANARY" not in json.dumps(shown)


def test_the_golds_of_a_question_are_not_in_the_info():
    episode = ChatEpisode("sdar/SearchQA-v0", reveal_answers=True)
    step = episode.reset(seed=0)
    assert episode.env_info["golden_answers"]
    assert set(step.info) == set(INFO_TYPES)


def test_ways_to_reset():
    episode = ChatEpisode("sdar/SearchQA-v0", split="test")
    task = tasks("sdar/SearchQA-v0", split="test", limit=3)[2]
    assert episode.reset(task_id=task.id).messages == episode.reset(task=task).messages
    assert (
        episode.reset(seed=7).info["task_id"]
        == make_text_env("sdar/SearchQA-v0", split="test").reset(seed=7)[1]["task_id"]
    )
    with pytest.raises(InvalidOption, match="both task and task_id"):
        episode.reset(task=task, task_id=task.id)
    with pytest.raises(UnknownName):
        episode.reset(task_id="search_qa/test/x")
    with pytest.raises(EpisodeOver):  # a failed reset does not go on with the old episode
        episode.step("x")


def test_the_window_is_the_argument_else_the_styles_else_two():
    style = PromptStyle("Count.", history_length=0)
    for chosen, given, wanted in ((None, None, 2), (style, None, 0), (style, 3, 3)):
        episode = ChatEpisode(CountingEnv(), style=chosen, history_length=given)
        episode.reset(seed=0)
        assert episode.conversation.history_length == wanted


def test_a_step_that_raises_can_be_tried_again(monkeypatch):
    episode = ChatEpisode(CountingEnv(), mode="appended")
    before = episode.reset(seed=0).messages
    with monkeypatch.context() as patched:
        patched.setattr(CountingEnv, "_act", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            episode.act("up")
    assert episode.act("up").messages[: len(before) + 1] == [
        *before,
        {"role": "assistant", "content": "<action>up</action>"},
    ]


def test_native_calls_are_appended_with_what_the_environment_says_to_each():
    episode = ChatEpisode(CountingEnv(), mode="appended", action_format="tools", style=DEFAULT_STYLE)
    chat = episode.reset(seed=3).messages
    call = ToolCall("act", '{"command": "double"}', "c1")
    more = ToolCall("act", '{"command": "down"}')
    step = episode.step("So.", tool_calls=(call, more))
    said, tool, other = api_messages(step.messages[len(chat) :])
    function = {"name": "act", "arguments": '{"command": "double"}'}
    assert (said["role"], said["content"]) == ("assistant", "So.")
    assert said["tool_calls"][0] == {"id": "c1", "type": "function", "function": function}
    assert (tool["role"], tool["tool_call_id"]) == ("tool", "c1")
    assert step.observation in tool["content"]
    assert other["tool_call_id"] == said["tool_calls"][1]["id"] != ""
    assert other["content"] == "Not carried out: the first call of a turn counts."
    # An answer without a call is followed by a user message, as ever.
    later = episode.step("Nothing comes to mind.")
    assert [message["role"] for message in later.messages[len(step.messages) :]] == ["assistant", "user"]
    # A shorter chat keeps calls and what was said to them together.
    shorter = episode.conversation.messages(1)
    assert shorter == [later.messages[0], *later.messages[len(step.messages) :]]
    assert [message["role"] for message in episode.conversation.messages(0)] == ["user"]
    assert later.observation in episode.conversation.messages(0)[0]["content"]


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({"mode": "apended"}, InvalidOption, "Did you mean 'appended'"),
        ({"history_length": -1}, InvalidOption, "wanted 0 or more"),
        ({"mode": "appended", "history_length": 2}, InvalidOption, "shows all turns"),
        ({"action_format": "jsno"}, InvalidOption, "Did you mean 'json'"),
        ({"style": "alfword"}, UnknownName, "Did you mean 'alfworld'"),
    ],
)
def test_bad_settings(settings, error, match):
    with pytest.raises(error, match=match):
        ChatEpisode(CountingEnv(), **({"style": DEFAULT_STYLE} | settings))


def test_bad_environments():
    with pytest.raises(InvalidOption, match="'split' is an argument of an environment"):
        ChatEpisode(CountingEnv(), split="valid")
    with pytest.raises(EpisodeOver, match="call reset"):
        ChatEpisode(CountingEnv()).parts  # noqa: B018
    with pytest.raises(EpisodeOver, match="observe"):
        Conversation(DEFAULT_STYLE).messages()
    appended = ChatEpisode(CountingEnv(), mode="appended")
    first = appended.reset(seed=0)
    assert appended.parts.messages() == first.messages
    appended.step("up")
    with pytest.raises(InvalidOption, match="parts at its first turn alone"):
        appended.parts  # noqa: B018


def test_parts_take_paragraphs_between_task_and_history():
    episode = ChatEpisode("sdar/WebShop-v0")
    episode.reset(seed=0)
    step = episode.act("search[hat]")
    (message,) = episode.parts.messages(["Know this."])
    assert "\n\nKnow this.\n\nSteps taken so far: 1." in message["content"]
    assert message["content"].replace("Know this.\n\n", "") == step.messages[0]["content"]


def test_native_calls_are_read_and_offered():
    episode = ChatEpisode("sdar/WebShop-v0", action_format="tools")
    step = episode.reset(seed=0)
    assert [tool.name for tool in episode.tools] == ["search", "click"]
    assert step.messages[0]["content"].endswith("search[...] is the tool search, click[...] is the tool click.")
    step = episode.step("", tool_calls=[ToolCall("search", '{"query": "Hat"}')])
    assert (step.action, step.is_well_formed, step.is_action_valid) == ("search[hat]", True, True)
    assert "Turn 1, action: search[hat]" in step.messages[0]["content"]


def test_a_conversation_without_an_environment():
    conversation = Conversation(STYLES["search_qa"])
    conversation.observe("Who?", {"instruction": "Who?", "admissible_commands": []})
    conversation.answer(ParsedCompletion("search[x]", True, ""), "<search>x</search>")
    conversation.observe("Nobody.", {"instruction": "Who?", "admissible_commands": []})
    (message,) = conversation.messages()
    assert "Turn 1, action: <search>x</search>\n\nObservation now, at turn 2:\nNobody." in message["content"]
