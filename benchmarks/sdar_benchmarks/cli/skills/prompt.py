"""`sdar skills prompt`: what the teacher and the student read in a turn of a task."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from sdar_benchmarks.cli.options import Commands, add_settings
from sdar_benchmarks.cli.output import say
from sdar_benchmarks.cli.play.skill_options import add_skill_options, skill_settings

if TYPE_CHECKING:
    from sdar_agents.engines.chat.chat_template import ChatTemplate, Messages

__all__ = ["add"]


def add(actions: Commands) -> None:
    """Add `sdar skills prompt`."""
    action = actions.add_parser(
        "prompt", help="what teacher and student read in a turn, with lengths and what was dropped"
    )
    action.add_argument("task_id", metavar="TASK_ID", help="such as alfworld/valid_unseen/0017")
    action.add_argument("--env", metavar="ENV_ID", help="plays the task (default: that of its suite)")
    action.add_argument(
        "--turn", type=int, default=1, metavar="N", help="which turn, after a script's commands (default: %(default)s)"
    )
    action.add_argument("--style", metavar="STYLE", help="prompt style (default: that of the environment or its suite)")
    action.add_argument("--history-length", type=int, metavar="N", help="number of past turns (default: the style's)")
    action.add_argument(
        "--tokenizer", metavar="DIR", help="folder of a model, whose tokenizer counts (default: words and characters)"
    )
    action.add_argument(
        "--max-prompt-tokens", type=int, metavar="N", help="limit of the teacher's prompt; needs --tokenizer"
    )
    add_skill_options(action, skills="task_type")
    add_settings(action)
    action.set_defaults(run=_run, history="windowed", action_format=None)


def _run(args: argparse.Namespace) -> None:
    from sdar_agents.skill_use.prompts import name_skill
    from sdar_agents.skill_use.settings import open_skills
    from sdar_benchmarks.cli.prompts.prompts import play_turns
    from sdar_envs.errors import InvalidOption
    from sdar_envs.rng import derive_seed
    from sdar_skills import teacher_context

    given = skill_settings(args) or {}
    limit = args.max_prompt_tokens or given.get("max_prompt_tokens")
    if limit is not None and args.tokenizer is None:
        raise InvalidOption(f"the limit is {limit} tokens, and nothing counts them: name a folder with --tokenizer.")
    template = None if args.tokenizer is None else _template(args.tokenizer)
    conversation, task = play_turns(args)
    count = None if template is None else (lambda text: len(template.encode(text)))
    skills, _ = open_skills({**given, "max_prompt_tokens": limit}, [task.suite], count_tokens=count)
    seed = derive_seed(0, task.id)
    chosen = skills.choose(task, 0, 1, (seed, seed)) or ()
    context = teacher_context(
        conversation.parts(),
        chosen,
        skills.placement,
        token_budget=limit,
        count_tokens=count,
        render=None if template is None else template.render,
    )
    length = _counter(template)
    _print("student", conversation.messages(), length(conversation.messages(), ""))
    _print("teacher", context.messages, length(context.messages, context.prefix), context.prefix)
    say("--- skills")
    shown = {arm.skill for arm in context.skills}
    for skill in chosen:
        state = "shown" if skill.id in shown else "dropped"
        text = f"{len(template.encode_text(skill.text))} tokens" if template else f"{len(skill.text.split())} words"
        say(f"{state}: {skill.id}@{skill.version}, {skill.task_type or 'general'}, {text}, sha256 {skill.sha256[:12]}")
    dropped = ", ".join(map(name_skill, context.dropped_skills)) or "no skill"
    say(f"dropped for the limit: {dropped}, {context.dropped_turns} turns of history")


def _print(reader: str, messages: Messages, length: str, prefix: str = "") -> None:
    say(f"=== {reader}: {length}")
    if prefix:
        say(prefix, end="")
    for message in messages:
        say(f"--- {message['role']}")
        say(message["content"])


def _counter(template: ChatTemplate | None) -> Callable[[Messages, str], str]:
    def count(messages: Messages, prefix: str) -> str:
        if template is not None:
            return f"{len(template.encode(prefix + template.render(messages))):,} tokens"
        text = prefix + "\n\n".join(message["content"] for message in messages)
        return f"{len(text.split()):,} words, {len(text):,} characters (tokens with --tokenizer)"

    return count


def _template(folder: str) -> ChatTemplate:
    """Return the chat template of a model's folder; its weights are not loaded."""
    from sdar_agents.engines.chat.chat_template import ChatTemplate
    from sdar_agents.engines.loading_errors import check_tokenizer, loading_error
    from sdar_envs.importing import import_extra

    transformers = import_extra("transformers", extra="transformers", purpose="a tokenizer")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        raise loading_error(folder, "cpu", error) from error
    check_tokenizer(folder, tokenizer)
    return ChatTemplate(tokenizer)
