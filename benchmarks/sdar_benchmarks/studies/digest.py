"""Digest of the code that decides the numbers of a training run: cells of a study compare only if theirs is equal.

It is of those modules alone, without comments and docstrings, and of the skills: it stays the same when other files
change, or only their words, and on other versions of Python. A method is digested with its base classes, so that
another method in the package changes nothing.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import io
import tokenize
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import sdar_agents
import sdar_envs
import sdar_skills
from sdar_agents.algorithms import find_algorithm
from sdar_agents.training.config import TrainConfig
from sdar_envs.errors import CorruptData
from sdar_envs.registry import suite_of

__all__ = ["code_digest", "code_files"]

_AGENTS = (
    *("algorithms/advantages.py", "algorithms/gap.py", "algorithms/losses.py", "algorithms/schedules.py"),
    *("algorithms/shaping.py", "engines/chat/appended.py", "engines/chat/chat_template.py", "engines/chat/reading.py"),
    *("engines/decoding.py", "engines/decoding_batches.py", "engines/policy.py", "engines/transformers.py"),
    *("learner/controls.py", "learner/learner.py", "learner/passes.py"),
    *("learner/settings.py", "learner/teachers.py", "learner/weights.py", "rollout/episode.py"),
    *("rollout/independent.py", "rollout/prompts.py", "rollout/rewards.py", "rollout/rollout.py"),
    *("rollout/task_stream.py", "scoring/batch.py", "scoring/divergences.py", "scoring/head.py"),
    *("scoring/logprobs.py", "scoring/packing.py", "scoring/prefix_tree.py", "scoring/shared_prefixes.py"),
    *("scoring/tree_attention.py", "skill_use/prompts.py", "training/evaluation.py", "training/run/skills.py"),
    *("training/splits.py", "training/trainer.py"),
)
_ENVS = (
    *("core.py", "orders.py", "rng.py", "chat/conversation.py", "prompt/parsing.py", "prompt/parts.py"),
    *("prompt/style.py", "prompt/templates.py"),
)
_SUITES = {
    "alfworld": (
        *("alfworld/embedded.py", "alfworld/env.py", "alfworld/generator.py", "alfworld/instruction.py"),
        *("alfworld/knowledge.py", "alfworld/logic.py", "alfworld/problem.py", "alfworld/wording.py"),
        "alfworld/world.py",
    ),
    "webshop": ("webshop/**/*.py",),
    "search_qa": ("search_qa/**/*.py",),
}
_SKILLS = ("context.py", "library/budget.py", "retrieval/controls.py", "retrieval/homes.py", "retrieval/strategies.py")
_OWN = ("measures.py",)


def code_files(config: TrainConfig) -> list[Path]:
    """Return the files that decide the numbers of a run, in order of their names.

    Raises:
        CorruptData: one is missing.
    """
    suite = suite_of(config.rollout.env_id)
    found = {
        *_files(sdar_agents.__file__, _AGENTS),
        *_files(sdar_envs.__file__, (*_ENVS, *_SUITES.get(suite, ()))),
        *_files(sdar_skills.__file__, _SKILLS),
        *_files(__file__, _OWN),
    }
    # The skill of a home is generated; others are read from files.
    if not (config.skills.retriever == "home" and config.skills.k <= 1):
        found |= set(_files(sdar_skills.__file__, (f"builtin/{suite}/**/*.md",)))
    for owner in find_algorithm(config.method).__mro__:
        if owner.__module__ not in ("builtins", "abc", "typing"):
            found.add(Path(inspect.getfile(owner)).resolve())
    return sorted(found)


def code_digest(config: TrainConfig) -> str:
    """Return the digest of the files of `code_files`, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for path in code_files(config):
        digest.update(f"{path.parent.name}/{path.name} {_content(path)}\n".encode())
    return digest.hexdigest()[:16]


def _files(package: str | None, patterns: Iterable[str]) -> Iterable[Path]:
    folder = Path(str(package)).resolve().parent
    for pattern in patterns:
        found = list(folder.glob(pattern))
        if not found and "*" not in pattern:
            raise CorruptData(f"{folder / pattern} is missing, which decides the numbers of a study: reinstall.")
        yield from found


@cache
def _content(path: Path) -> str:
    """Return the hash of a file; of a module without its comments and docstrings."""
    text = path.read_text(encoding="utf-8")
    lines: list[str] = text.splitlines()
    if path.suffix == ".py":
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                row, column = token.start
                lines[row - 1] = lines[row - 1][:column]
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and node.body:
                first = node.body[0]
                is_text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
                if is_text and isinstance(first.value.value, str):  # type: ignore[attr-defined]
                    for row in range(first.lineno, (first.end_lineno or first.lineno) + 1):
                        lines[row - 1] = ""
    code = "\n".join(line.rstrip() for line in lines if line.strip())
    return hashlib.sha256(code.encode()).hexdigest()
