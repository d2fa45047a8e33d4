"""Teacher contexts: placements, what is dropped for a budget, and rebuilding from the record."""

from __future__ import annotations

import json
from dataclasses import replace

import gymnasium
import pytest
from helpers.skill_toys import make_skill
from hypothesis import given
from hypothesis import strategies as st

from sdar_envs.errors import CorruptData, InvalidOption, UnknownName
from sdar_envs.prompt import DEFAULT_STYLE, PromptParts, Turn, prompt_parts, render_messages, style_for
from sdar_skills import Library, Retrieved, TeacherContext, rebuild_context, teacher_context, teacher_messages
from sdar_skills.context import ContextTooLong, legacy_prefix, skill_block
from sdar_skills.library.skill import arm_of

SKILLS = (make_skill("first", "lift", "one two three"), make_skill("second", text="four five"), make_skill("third"))
LIBRARY = Library(SKILLS)
HISTORY = [Turn(f"room {i}", f"go {i}") for i in range(4)]
PLACEMENTS = ("user", "system", "legacy_prefix")


def make_prompt(history_length: int = 3, system: str | None = None) -> PromptParts:
    return prompt_parts(
        DEFAULT_STYLE, "lift the box.", HISTORY, "a box", ["lift", "look"], history_length=history_length, system=system
    )


def render(messages) -> str:
    return "".join(f"<|{message['role']}|>\n{message['content']}<|end|>\n" for message in messages) + "<|assistant|>\n"


def count_words(text: str) -> int:
    return len(text.split())


def test_the_user_turn_has_skills_between_task_and_history():
    context = teacher_context(make_prompt(), SKILLS[:2])
    [message] = context.messages
    student = make_prompt().messages()[0]["content"]
    task, history = student.split("\n\nSteps taken so far")
    assert message["role"] == "user"
    assert task.endswith("Your task: lift the box.")
    assert message["content"] == (
        f"{task}\n\n"
        "What is known about tasks of this kind:\n\n### first\none two three\n\n### second\nfour five\n\n"
        f"Steps taken so far{history}"
    )
    assert (context.prefix, context.placement, context.dropped_turns, context.tokens) == ("", "user", 0, None)


def test_a_system_message_is_made_or_lengthened():
    student = make_prompt().messages()
    assert teacher_messages(make_prompt(), SKILLS, "system") == [
        {"role": "system", "content": skill_block(SKILLS)},
        *student,
    ]
    assert teacher_messages(make_prompt(system="Be brief."), SKILLS, "system") == [
        {"role": "system", "content": f"Be brief.\n\n{skill_block(SKILLS)}"},
        *student,
    ]


def test_the_legacy_prefix_precedes_the_rendered_chat():
    context = teacher_context(make_prompt(), SKILLS[:2], "legacy_prefix")
    assert context.messages == make_prompt().messages()
    assert context.prefix == "[Privileged Skill Information]\none two three\n\nfour five\n\n"
    assert context.render(render) == context.prefix + render(make_prompt().messages())


def test_system_works_on_any_conversation_and_user_says_what_it_needs():
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    assert teacher_messages(chat, SKILLS[:1], "system") == [
        {"role": "system", "content": skill_block(SKILLS[:1])},
        *chat,
    ]
    assert teacher_messages(chat, SKILLS, "legacy_prefix") == chat
    assert teacher_messages(chat, (), "user") == chat
    with pytest.raises(InvalidOption, match="plain messages do not tell where the task ends"):
        teacher_messages(chat, SKILLS)
    with pytest.raises(InvalidOption, match="Did you mean 'system'"):
        teacher_messages(chat, SKILLS, "sistem")


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("system", [None, "Be brief."])
def test_without_skills_the_teacher_reads_what_the_student_reads(placement, system):
    prompt = make_prompt(system=system)
    for budget in (None, 10_000):
        context = teacher_context(prompt, (), placement, token_budget=budget, count_tokens=len, render=render)
        assert context.messages == prompt.messages()
        assert context.render(render).encode() == render(prompt.messages()).encode()
        assert context.skills == ()


@pytest.mark.parametrize("env_id", ["sdar/ALFWorld-v0", "sdar/WebShop-v0", "sdar/SearchQA-v0"])
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_the_students_text_stays_through_an_episode(env_id, placement):
    env = gymnasium.make(env_id, split="train", disable_env_checker=True).unwrapped
    observation, info = env.reset(seed=1)
    history: list[Turn] = []
    for action in env.oracle_plan():
        style = style_for(env.task.suite)
        arguments = (style, info["instruction"], history, observation, info["admissible_commands"])
        student = render_messages(*arguments)
        prompt = prompt_parts(*arguments)
        assert teacher_context(prompt, (), placement).messages == student
        user = teacher_context(prompt, SKILLS, placement).messages[-1]["content"]
        assert user.replace(f"{skill_block(SKILLS)}\n\n", "") == student[-1]["content"]
        assert (skill_block(SKILLS) in user) == (placement == "user")
        history.append(Turn(observation, action))
        observation, *_, info = env.step(action)


# -- budgets ----------------------------------------------------------------------------------


def with_budget(budget, placement="user", **more) -> TeacherContext:
    return teacher_context(
        make_prompt(), SKILLS, placement, token_budget=budget, count_tokens=count_words, render=render, **more
    )


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_things_give_way_in_order(placement):
    seen = []
    for budget in range(200, 0, -1):
        try:
            context = with_budget(budget, placement)
        except ContextTooLong:
            break
        assert context.tokens == count_words(context.render(render)) <= budget == context.token_budget
        state = (len(context.skills), 3 - context.dropped_turns)
        assert context.skills + context.dropped_skills == tuple(map(arm_of, SKILLS))
        text = context.render(render)
        for part in ("Your task: lift the box.", "at turn 5:\na box", "lift\nlook", "<action>...</action>", "one two"):
            assert part in text
        if not seen or seen[-1] != state:
            seen.append(state)
    assert seen == [(3, 3), (2, 3), (1, 3), (1, 2), (1, 1), (1, 0)]
    with pytest.raises(ContextTooLong, match="without history and with one skill only, and the budget is 5"):
        with_budget(5, placement)


def test_a_skill_for_the_task_outlives_better_general_ones():
    general, task, other = make_skill("best", text="a b"), make_skill("task", "lift", "c d"), make_skill("lift", "lift")
    arguments = {"count_tokens": count_words, "render": render}
    seen = []
    for budget in range(200, 0, -1):
        try:
            context = teacher_context(make_prompt(), (general, task, other), token_budget=budget, **arguments)
        except ContextTooLong:
            break
        assert sorted(context.skills + context.dropped_skills) == sorted(map(arm_of, (general, task, other)))
        seen.append((*(arm.skill for arm in context.skills), context.dropped_turns))
    assert list(dict.fromkeys(seen)) == [
        ("toy/best", "toy/task", "toy/lift", 0),
        ("toy/best", "toy/task", 0),
        ("toy/task", 0),
        ("toy/task", 1),
        ("toy/task", 2),
        ("toy/task", 3),
    ]


def test_history_is_dropped_oldest_turn_first():
    context = with_budget(next(b for b in range(1, 200) if _fits(b) and with_budget(b).dropped_turns == 1))
    text = context.messages[0]["content"]
    assert "room 1" not in text
    assert "room 2" in text
    assert "room 3" in text
    assert text == teacher_context(make_prompt(history_length=2), SKILLS[:1]).messages[0]["content"]


def _fits(budget: int) -> bool:
    try:
        with_budget(budget)
    except ContextTooLong:
        return False
    return True


def test_the_best_skill_goes_only_on_request_and_then_the_history_comes_back():
    student = count_words(render(make_prompt().messages()))
    long = (make_skill("long", text="word " * 500 + "end"),)
    arguments = {"token_budget": student, "count_tokens": count_words, "render": render}
    with pytest.raises(ContextTooLong, match=f"the budget is {student}"):
        teacher_context(make_prompt(), long, **arguments)
    context = teacher_context(make_prompt(), long, **arguments, require_skill=False)
    assert (context.skills, context.dropped_skills) == ((), (arm_of(long[0]),))
    assert context.dropped_turns == 0
    assert context.messages == make_prompt().messages()
    arguments["token_budget"] = 10
    with pytest.raises(ContextTooLong, match="with no skill"):
        teacher_context(make_prompt(), long, **arguments, require_skill=False)


def test_a_budget_needs_a_token_counter_and_a_chat_template():
    for missing in ({"count_tokens": len}, {"render": render}, {}):
        with pytest.raises(InvalidOption, match="needs count_tokens= and render="):
            teacher_context(make_prompt(), SKILLS, token_budget=10, **missing)
    for budget in (0, -1, 1.5, True):
        with pytest.raises(InvalidOption, match="wanted None or a number of tokens"):
            teacher_context(make_prompt(), SKILLS, token_budget=budget, count_tokens=len, render=render)
    with pytest.raises(InvalidOption, match="wanted one of user, system, legacy_prefix"):
        teacher_context(make_prompt(), SKILLS, "prefix")


def test_retrieved_skills_are_taken_as_they_come():
    retrieved = [Retrieved(skill, 1.0, "why") for skill in SKILLS]
    assert teacher_context(make_prompt(), retrieved) == teacher_context(make_prompt(), SKILLS)


# -- the record -------------------------------------------------------------------------------


@given(
    st.integers(1, 150),
    st.sampled_from(PLACEMENTS),
    st.booleans(),
    st.permutations(SKILLS),
    st.builds(make_prompt, st.integers(0, 5), st.none() | st.text(st.characters(codec="utf-8"), max_size=10)),
)
def test_a_record_rebuilds_the_context(budget, placement, require_skill, skills, prompt):
    try:
        context = teacher_context(
            prompt,
            skills,
            placement,
            token_budget=budget,
            count_tokens=count_words,
            render=render,
            require_skill=require_skill,
        )
    except ContextTooLong:
        return
    record = TeacherContext.from_json(json.loads(json.dumps(context.to_json())))
    assert record == context
    again = rebuild_context(record, prompt, LIBRARY)
    assert again == context
    assert again.render(render) == context.render(render)


def test_rebuilding_refuses_another_library_or_prompt():
    record = teacher_context(make_prompt(), SKILLS)
    changed = make_skill("first", "lift", "changed", version="2.0.0")
    with pytest.raises(CorruptData, match=r"toy/first was version 1\.0\.0 .* and is 2\.0\.0"):
        rebuild_context(record, make_prompt(), Library([changed, *SKILLS[1:]]))
    with pytest.raises(UnknownName, match="no skill 'toy/third'"):
        rebuild_context(record, make_prompt(), Library(SKILLS[:2]))
    with pytest.raises(CorruptData, match="differs from its record"):
        rebuild_context(record, make_prompt(history_length=1), LIBRARY)
    with pytest.raises(CorruptData, match="differs from its record"):
        rebuild_context(replace(record, prefix="x"), make_prompt(), LIBRARY)


def test_without_skills_there_is_no_prefix():
    assert legacy_prefix(()) == ""
