"""Teacher contexts in tokens: a real byte-pair encoder and a chat template with special tokens."""

from __future__ import annotations

from functools import lru_cache

import gymnasium
import pytest
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

from sdar_envs import Task
from sdar_envs.prompt import PromptParts, Turn, prompt_parts, style_for
from sdar_skills import Library, make_retriever, rebuild_context, teacher_context
from sdar_skills.context import Messages, legacy_prefix, skill_block
from sdar_skills.library.skill import arm_of

ENVIRONMENTS = ("sdar/ALFWorld-v0", "sdar/WebShop-v0", "sdar/SearchQA-v0")
PLACEMENTS = ("user", "system", "legacy_prefix")
LIBRARY = Library.load()


def render(messages: Messages) -> str:
    """The chat template of Qwen's models, with the generation prompt."""
    turns = [f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n" for message in messages]
    return "".join(turns) + "<|im_start|>assistant\n"


@lru_cache(maxsize=1)
def tokenizer() -> Tokenizer:
    """Train a byte-level encoder of 2,000 tokens on the skills, as GPT-2's and Qwen's are made."""
    made = Tokenizer(BPE())
    made.pre_tokenizer = ByteLevel(add_prefix_space=False)
    made.decoder = ByteDecoder()
    trainer = BpeTrainer(
        vocab_size=2_000,
        special_tokens=["<|im_start|>", "<|im_end|>"],
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([skill.text for skill in LIBRARY], trainer)
    return made


def tokens(text: str) -> list[int]:
    ids: list[int] = tokenizer().encode(text, add_special_tokens=False).ids
    return ids


def count(text: str) -> int:
    return len(tokens(text))


@lru_cache(maxsize=3)
def last_prompt(env_id: str) -> tuple[Task, PromptParts]:
    """Return a task and the prompt of its last turn."""
    env = gymnasium.make(env_id, split="train", disable_env_checker=True).unwrapped
    observation, info = env.reset(seed=1)
    history = []
    for action in env.oracle_plan()[:-1]:
        history.append(Turn(observation, action))
        observation, *_, info = env.step(action)
    style = style_for(env.task.suite)
    return env.task, prompt_parts(style, info["instruction"], history, observation, info["admissible_commands"])


def test_the_encoder_is_a_real_one():
    text = render(last_prompt(ENVIRONMENTS[0])[1].messages())
    assert tokenizer().decode(tokens(text), skip_special_tokens=False) == text
    assert tokens(text)[0] == tokenizer().token_to_id("<|im_start|>")
    assert count(text) < len(text) / 2


@pytest.mark.parametrize("env_id", ENVIRONMENTS)
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_without_skills_teacher_and_student_read_the_same_tokens(env_id, placement):
    _, prompt = last_prompt(env_id)
    student = tokens(render(prompt.messages()))
    for budget in (None, len(student)):
        context = teacher_context(prompt, (), placement, token_budget=budget, count_tokens=count, render=render)
        assert tokens(context.render(render)) == student
        assert context.tokens in (None, len(student))


@pytest.mark.parametrize("env_id", ENVIRONMENTS)
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_the_budget_holds_in_tokens_and_what_must_stay_stays(env_id, placement):
    task, prompt = last_prompt(env_id)
    skills = [found.skill for found in make_retriever("task_type", LIBRARY).retrieve(task, 6, None, None)]
    own = [skill for skill in skills if skill.task_type == task.task_type]
    whole = teacher_context(prompt, skills, placement, token_budget=10**6, count_tokens=count, render=render)
    bare = teacher_context(
        PromptParts(prompt.before, prompt.past, 0, prompt.after, prompt.system), own[:1], placement
    ).render(render)
    assert whole.tokens == count(whole.render(render))
    for budget in range(count(bare), whole.tokens + 1, 23):
        context = teacher_context(prompt, skills, placement, token_budget=budget, count_tokens=count, render=render)
        text = context.render(render)
        assert count(text) == context.tokens <= budget
        for part in (*prompt.before, *prompt.after, own[0].text):
            assert part in text
        kept = [skill for skill in skills if arm_of(skill) in context.skills]
        assert (legacy_prefix(kept) if placement == "legacy_prefix" else skill_block(kept)) in text
        assert context.skills + context.dropped_skills == tuple(map(arm_of, skills))
        # History goes only when nothing but the last skill is left.
        assert not context.dropped_turns or len(context.skills) == 1
        assert rebuild_context(context, prompt, LIBRARY).render(render) == text


@pytest.mark.parametrize("env_id", ENVIRONMENTS)
def test_the_legacy_prefix_is_the_references_teacher_prompt(env_id):
    # Prepended to the student's rendered chat, special tokens included, and encoded anew; see SDAR's teacher batch.
    task, prompt = last_prompt(env_id)
    skills = [found.skill for found in make_retriever("task_type", LIBRARY).retrieve(task, 6, None, None)]
    student = tokens(render(prompt.messages()))
    decoded = tokenizer().decode(student, skip_special_tokens=False)
    texts = "\n\n".join(skill.text for skill in skills)
    context = teacher_context(prompt, skills, "legacy_prefix")
    assert tokens(context.render(render)) == tokens(f"[Privileged Skill Information]\n{texts}\n\n{decoded}")
    # A special token begins the chat, so the student's tokens come whole after the prefix.
    assert tokens(context.render(render)) == [*tokens(context.prefix), *student]
