"""Page of the keys of `info`, made from episodes that are played while the page is made."""

from __future__ import annotations

from typing import Any

import sdar_envs
from page_makers.markdown import cell, code, table
from sdar_envs import INFO_TYPES

__all__ = ["MEANINGS", "info_page", "played_info"]

MEANINGS = {
    "task_id": "the task: `<suite>/<split>/<rest>`, the same in every version",
    "task_type": "the kind of task; keys the skills",
    "instruction": "the goal in words, as the player reads it",
    "split": "the split of the task",
    "is_success": "whether the task is solved",
    "won": "the same, under the name that verl-agent looks for",
    "score": "progress or score from 0 to 1",
    "is_action_valid": "whether the environment accepted the last command; true at reset",
    "admissible_commands": "commands that do something now; templates such as `search[<your query>]` stand for any "
    "text",
    "step": "commands given so far",
    "gamefile": "path of an official game; empty for an embedded one",
    "extra.gamefile": "the same under TextWorld's name; an embedded game has a path that no file is at and that "
    "names the "
    "task type",
    "available_actions": "the original's form: whether there is a search bar, and what can be clicked",
    "reward_info": "the parts of the score; empty until the purchase",
    "title_score_exact": "false if the nouns of titles are guessed because spaCy is not installed",
    "data_set": "the data set of the question, such as `nq`",
    "metrics": "the score of the answer by each metric; 0 before the end",
    "answer": "the answer given; empty before",
    "searches": "searches carried out so far",
    "passage_ids": "passages of this turn's search",
    "supporting_found": "passages found so far that the answer follows from",
    "supporting_hit": "whether there is any among them",
    "evidence_turn": "the turn in which the last of the supporting passages was shown; 0 before",
    "answer_shown": "whether a passage shown so far contains a golden answer by whole words (answer@k)",
    "retrieval_error": "why a search failed; empty unless one did and `on_error` is not `raise`",
    "golden_answers": "the accepted answers; only with `reveal_answers=True`",
}
"""What each key means."""

_ARGUMENTS: dict[str, dict[str, Any]] = {"sdar/SearchQA-v0": {"reveal_answers": True}}


def played_info() -> dict[str, dict[str, Any]]:
    """Return, by environment, `info` after the first command of an episode."""
    result = {}
    for env_id in sdar_envs.ENV_IDS:
        env = sdar_envs.make_text_env(env_id, **_ARGUMENTS.get(env_id, {}))
        env.reset(seed=0)
        *_, result[env_id] = env.step("look")
        env.close()
    return result


def info_page() -> str:
    """Return the page of the keys of `info`."""
    common = [(code(name), code(kind.__name__), cell(MEANINGS[name])) for name, kind in INFO_TYPES.items()]
    parts = [
        "# Keys of info\n",
        "`reset` and `step` return `info`, a dictionary. These keys are there at reset and at every step, in every "
        "environment, with these types (`sdar_envs.INFO_TYPES`); an environment of your own has them too.\n",
        table(("key", "type", "meaning"), common),
        "",
    ]
    for env_id, info in played_info().items():
        rows = [
            (code(name), code(type(value).__name__), cell(MEANINGS[name]))
            for name, value in info.items()
            if name not in INFO_TYPES
        ]
        if rows:
            parts += [f"## {env_id}\n", "Besides:\n", table(("key", "type", "meaning"), rows), ""]
    return "\n".join(parts)
