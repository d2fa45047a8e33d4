"""Pages of the settings, made from dataclasses, signatures and their docstrings."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, get_type_hints

import sdar_envs
from page_makers.docstrings import attribute_texts, entries, introduction, summary
from page_makers.markdown import cell, code, table
from sdar_agents.algorithms import ALGORITHMS, GRPO, SUITES, make_algorithm
from sdar_agents.baselines.scripted import AGENTS
from sdar_agents.configs import config_names, config_summary, recipe_names
from sdar_agents.players.chat import ChatAgent
from sdar_agents.players.registry import EXTRAS, MODELS
from sdar_agents.settings.checks import value_kinds, wanted_words
from sdar_agents.sft.demonstrations import DemonstrationSettings
from sdar_agents.sft.settings import SFTSettings
from sdar_agents.sft.tiny import TINY_MODELS, TinyModel
from sdar_agents.skill_use.settings import EvaluationSkills
from sdar_agents.training.config import TrainConfig
from sdar_envs.registry import env_creator

__all__ = ["Setting", "agent_page", "environment_page", "method_page", "settings_of", "sft_page", "training_page"]


class Setting(NamedTuple):
    """One setting of a dataclass.

    Attributes:
        path: of the setting, such as `learner.lr`.
        wanted: values that it takes, in words.
        default: as it is written in YAML; empty if it must be given.
        meaning: from the docstring.
    """

    path: str
    wanted: str
    default: str
    meaning: str


def settings_of(owner: type, prefix: str = "") -> Iterator[Setting]:
    """Yield the settings of a dataclass of settings, without those of the sections in it."""
    hints, texts = get_type_hints(owner), attribute_texts(owner)
    for field in dataclasses.fields(owner):
        limits = {key: value for key, value in field.metadata.items() if key in ("low", "high", "above")}
        if _section(hints[field.name]) is None:
            wanted = wanted_words(hints[field.name], **limits)
            yield Setting(prefix + field.name, wanted, _default(field), texts.get(field.name, ""))


def sections_of(owner: type, prefix: str = "") -> Iterator[tuple[str, type]]:
    """Yield the path and the dataclass of each section of settings: the owner with an empty path, then those in it."""
    yield prefix, owner
    hints = get_type_hints(owner)
    for field in dataclasses.fields(owner):
        section = _section(hints[field.name])
        if section is not None:
            yield from sections_of(section, f"{prefix}{field.name}.")


def training_page() -> str:
    """Return the page of `sdar train`'s configuration: every setting, its values, its default, its meaning."""
    parts = [
        "# Training configuration\n",
        "A configuration is a YAML file with these settings. `sdar train --config NAME` takes a file or the name of "
        "one of the configurations below, and any setting by its path, such as `--learner.lr 3e-6`. A misspelt "
        "name, a wrong "
        "type or a number out of range is an error that says what was wanted.\n",
        "Some settings choose from a list: `method` from [Methods](methods.md), `skills.retriever` from the strategies "
        "that `sdar skills` knows, `rollout.env_kwargs` from [Environments](environments.md).\n",
        "## Configurations of this package\n",
        table(("name", "what it is"), [(code(name), cell(config_summary(name))) for name in config_names()]),
        "",
        "[Recipes](../how-to/many-gpus.md) of a suite, a model and a number of GPUs: "
        f"{', '.join(map(code, recipe_names()))}.\n",
    ]
    for path, section in sections_of(TrainConfig):
        parts.append(f"## {path.rstrip('.')}\n" if path else "## Run\n")
        parts += [f"{summary(section)}\n", _settings_table(section, path), ""]
    return "\n".join(parts)


def method_page() -> str:
    """Return the page of the methods' coefficients: settings of each method, presets, and what suites differ in."""
    parts = [
        "# Methods\n",
        "`method` (`--method`) names one of these; its coefficients are given under `algorithm` (`--algorithm.beta "
        "10`) or, for several methods in one file, under `methods.NAME`. [The formulas](../explanation/methods.md) "
        "say what they "
        "multiply. All methods inherit the settings of `grpo`.\n",
    ]
    rows_of_all = [(f"[`{name}`](#{name})", cell(summary(owner))) for name, owner in sorted(ALGORITHMS.items())]
    parts += [table(("method", "what it is"), rows_of_all), ""]
    base: set[str] = set()
    told: set[str] = set()
    for name, owner in sorted(ALGORITHMS.items(), key=lambda item: (item[0] != "grpo", item[0])):
        rows = [row for row in settings_of(owner) if row.path not in base or row.default != _grpo_default(row.path)]
        parts.append(f"## {name}\n")
        if owner.__module__ in told:
            parts.append(f"{introduction(owner)}\n")
        else:
            told.add(owner.__module__)
            parts.append(f"{inspect.getdoc(sys.modules[owner.__module__])}\n")
        flags = [
            words
            for words, is_on in (
                ("needs a teacher, which reads skills", owner.needs_teacher),
                ("the student reads skills", owner.student_sees_skills),
            )
            if is_on
        ]
        parts += [f"{'; '.join(flags)[:1].upper()}{'; '.join(flags)[1:]}.\n"] if flags else []
        parts += [_table(rows), ""] if rows else ["It has the settings of `grpo`.\n"]
        if name == "grpo":
            base = {row.path for row in rows}
    parts += [
        "## Presets and suites\n",
        "`--preset paper` has the reference's settings, `default` ours. Three settings differ; the rest is as "
        "above. On "
        "top come the settings of the suite.\n",
        _preset_table(make_algorithm, SUITES),
        "",
    ]
    return "\n".join(parts)


def sft_page() -> str:
    """Return the page of the settings of fine-tuning and demonstrations."""
    shapes = [
        (code(name), *(code(value) for value in dataclasses.astuple(model))) for name, model in TINY_MODELS.items()
    ]
    return "\n".join(
        [
            "# Fine-tuning settings\n",
            "## sdar sft\n",
            f"{summary(SFTSettings)} Given as `--set NAME=VALUE`.\n",
            _settings_table(SFTSettings, ""),
            "",
            "## Tiny models\n",
            f"{summary(TinyModel)} `sdar sft NAME` makes one from nothing.\n",
            table(("name", *(field.name for field in dataclasses.fields(TinyModel))), shapes),
            "",
            _settings_table(TinyModel, ""),
            "",
            "## sdar demos\n",
            f"{summary(DemonstrationSettings)} The options of [`sdar demos`](cli/sdar-demos.md) set them.\n",
            _settings_table(DemonstrationSettings, ""),
            "",
        ]
    )


def agent_page() -> str:
    """Return the page of the agents, and of the settings of those that ask a model."""
    scripts = [(code(name), cell(summary(owner))) for name, owner in AGENTS.items()]
    parts = [
        "# Agents\n",
        "`sdar eval --agent NAME` plays with one of these, or with `module:Class`, [your own](../how-to/own-agent.md). "
        "`default` is the script of each suite.\n",
        "## Scripted agents\n",
        table(("name", "what it does"), scripts),
        "",
        "## Models\n",
        "A setting has an option of its own (`--model`, `--temperature`, ...) or is given as `--agent-set NAME=VALUE`. "
        "`openai` and `transformers` have the settings of a chat agent and their own.\n",
        "### Every chat agent\n",
        f"{summary(ChatAgent)}\n",
        _arguments_table(ChatAgent, leave_out=("policy",)),
        "",
    ]
    for name, owner in MODELS.items():
        parts += [f"### {name}\n", f"{summary(owner)} Needs the extra `{EXTRAS[name]}`.\n"]
        parts += [_arguments_table(owner), ""]
    parts += [
        "## Skills in the prompt\n",
        f"{summary(EvaluationSkills)} Set by the options `--skills`, `--library`, "
        "`--k`, `--placement`, `--skill-tokens` and `--skills-set`.\n",
        _settings_table(EvaluationSkills, "skills."),
        "",
    ]
    return "\n".join(parts)


def environment_page() -> str:
    """Return the page of the environments: their docstrings, splits and arguments."""
    parts = [
        "# Environments\n",
        "Arguments are given to `gymnasium.make(ID, ...)` and `sdar_envs.make_text_env(ID, ...)`, on the command "
        "line as "
        "`--set NAME=VALUE`, in a training configuration under `rollout.env_kwargs`. `sdar info ID` prints them too.\n",
    ]
    for env_id in sdar_envs.ENV_IDS:
        owner: Any = env_creator(env_id)
        env: Any = sdar_envs.make_text_env(env_id)
        splits = [
            (code(name), "without end" if size is None else f"{size:,}")
            for name, size in env.unwrapped.source.splits.items()
        ]
        parts += [
            f"## {env_id}\n",
            f"{introduction(owner)}\n",
            "**Splits** of the data that come with the package\n",
            table(("split", "tasks"), splits),
            "",
            "**Arguments**\n",
            _arguments_table(owner),
            "",
        ]
        env.close()
    return "\n".join(parts)


def _settings_table(owner: type, prefix: str) -> str:
    return _table(settings_of(owner, prefix))


def _table(rows: Iterator[Setting] | list[Setting]) -> str:
    cells = [
        (code(row.path), code(row.default) if row.default else "required", cell(row.wanted), cell(row.meaning))
        for row in rows
    ]
    return table(("setting", "default", "values", "meaning"), cells)


def _arguments_table(owner: Callable[..., Any], leave_out: tuple[str, ...] = ()) -> str:
    texts = entries(owner, "Args")
    rows = []
    for name, parameter in inspect.signature(owner).parameters.items():
        if name not in leave_out:
            default = "required" if parameter.default is parameter.empty else code(_yaml(parameter.default))
            rows.append((code(name), default, cell(texts[name])))
    return table(("argument", "default", "meaning"), rows)


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        return _yaml(field.default_factory())
    return "" if field.default is dataclasses.MISSING else _yaml(field.default)


def _yaml(value: Any) -> str:
    """Return a default as it would stand in a YAML file."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{}" if not value else str(dict(value))
    return "[]" if isinstance(value, (tuple, list)) and not value else str(value)


def _section(hint: Any) -> type | None:
    """Return the dataclass of a section of settings, which may be null; None for a plain setting."""
    return next((kind for kind in value_kinds(hint) if dataclasses.is_dataclass(kind) and isinstance(kind, type)), None)


def _grpo_default(path: str) -> str:
    return next((row.default for row in settings_of(GRPO) if row.path == path), "")


def _preset_table(make: Callable[..., Any], suites: Mapping[str, Mapping[str, float]]) -> str:
    made = {
        (preset, suite): dataclasses.asdict(make("grpo", preset=preset, suite=suite))
        for preset in ("default", "paper")
        for suite in suites
    }
    first = next(iter(made.values()))
    names = [name for name in first if any(values[name] != first[name] for values in made.values())]
    rows = [(code(name), *(code(_yaml(values[name])) for values in made.values())) for name in names]
    return table(("setting", *(f"{preset}, {suite}" for preset, suite in made)), rows)
