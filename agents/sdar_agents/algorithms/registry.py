"""Algorithm registry: methods by name or `module:Class`, and their presets.

    make_algorithm("sdar", suite="webshop", beta=10)
    make_algorithm("my_methods:RLOO", suite="alfworld")

A preset sets the coefficients; what differs between the suites (`SUITES`) comes on top, then single settings.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, get_args

from sdar_agents.algorithms.algorithm import Algorithm
from sdar_agents.algorithms.grpo import GRPO
from sdar_agents.algorithms.methods.adrs import ADRS
from sdar_agents.algorithms.methods.agentopsd import AgentOPSD
from sdar_agents.algorithms.methods.gigpo import GiGPO
from sdar_agents.algorithms.methods.grsd import GRSD
from sdar_agents.algorithms.methods.ocsd import OCSD
from sdar_agents.algorithms.methods.opid import OPID
from sdar_agents.algorithms.methods.opsd import OPSD, GRPOWithOPSD
from sdar_agents.algorithms.methods.rlsd import RLSD
from sdar_agents.algorithms.methods.sdar import SDAR, GRPOWithOPSDBeta0, OPSDScript
from sdar_agents.algorithms.methods.sdpo import SDPO
from sdar_agents.algorithms.methods.serl import SERL
from sdar_agents.algorithms.methods.skill_grpo import SkillGRPO
from sdar_agents.algorithms.methods.skill_sd import SkillSD
from sdar_agents.algorithms.methods.stepopsd import StepOPSD
from sdar_agents.algorithms.methods.ucob import UCOB
from sdar_agents.settings.checks import check_names
from sdar_envs.errors import InvalidOption, UnknownName, did_you_mean
from sdar_envs.importing import import_named, is_import_path

__all__ = ["ALGORITHMS", "SUITES", "Preset", "find_algorithm", "make_algorithm"]

Preset = Literal["default", "paper"]
"""`paper`: the reference's settings. `default`: no entropy bonus, zero-range rule on, sampler weights capped at 2."""

ALGORITHMS: Mapping[str, type[GRPO]] = MappingProxyType(
    {
        "adrs": ADRS,
        "agentopsd": AgentOPSD,
        "gigpo": GiGPO,
        "grpo": GRPO,
        "grpo_opsd": GRPOWithOPSD,
        "grpo_opsd_beta0": GRPOWithOPSDBeta0,
        "grsd": GRSD,
        "ocsd": OCSD,
        "opid": OPID,
        "opsd": OPSD,
        "opsd_script": OPSDScript,
        "rlsd": RLSD,
        "sdar": SDAR,
        "sdpo": SDPO,
        "serl": SERL,
        "skill_grpo": SkillGRPO,
        "skill_sd": SkillSD,
        "stepopsd": StepOPSD,
        "ucob": UCOB,
    }
)
"""The methods of this package by name."""

SUITES: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "alfworld": MappingProxyType({"kl_coef": 0.01, "invalid_penalty": 0.1}),
        "search_qa": MappingProxyType({"kl_coef": 0.001, "invalid_penalty": 0.01}),
        "webshop": MappingProxyType({"kl_coef": 0.01, "invalid_penalty": 0.1}),
    }
)
"""Settings that differ between the suites, in both presets. Source: the reference's scripts, which agree on them."""

_PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "default": MappingProxyType({"entropy_coef": 0.0, "zero_range": 1e-6, "sampler_cap": 2.0}),
        "paper": MappingProxyType({"entropy_coef": 0.001, "zero_range": 0.0, "sampler_cap": None}),
    }
)

_NEEDED = (
    "needs_teacher",
    "student_sees_skills",
    "shapes_advantages",
    "teacher_views",
    "needs_reference",
    "needs_turns",
    "aggregation",
    "response_limit",
    "invalid_penalty",
    "scoring_options",
    "prepare_rows",
    "advantages",
    "shape_advantages",
    "rows_with_gradient",
    "loss",
)


def find_algorithm(name: str) -> type[Algorithm]:
    """Class of a training method, built in or the user's own.

    Args:
        name: one of `ALGORITHMS`, or `module:Class` of your own: a frozen dataclass whose fields are its settings,
            usually one that inherits from `GRPO`.

    Raises:
        UnknownName: there is no such method.
        InvalidOption: the class is no algorithm.
    """
    if not is_import_path(name):
        if name not in ALGORITHMS:
            raise UnknownName(
                f"no method {name!r}; there is {', '.join(ALGORITHMS)}, or module:Class of your own."
                f"{did_you_mean(name, ALGORITHMS)}"
            )
        return ALGORITHMS[name]
    found = import_named(name, what="a method")
    how = "inherit from sdar_agents.algorithms.GRPO, as @dataclass(frozen=True, kw_only=True)"
    is_dataclass = isinstance(found, type) and dataclasses.is_dataclass(found)
    if not is_dataclass:
        raise InvalidOption(f"{name} is {found!r:.80}; wanted a class that is an algorithm: {how}.")
    fields = {field.name for field in dataclasses.fields(found)}
    missing = [member for member in _NEEDED if member not in fields and not hasattr(found, member)]
    if missing:
        raise InvalidOption(f"{name} is no algorithm, it has no {', '.join(missing)}: {how}.")
    own = vars(found)
    if own.get("__annotations__") and "__dataclass_fields__" not in own:
        raise InvalidOption(
            f"{name} has settings that are no fields: {', '.join(own['__annotations__'])}. Put "
            "@dataclass(frozen=True, kw_only=True) above the class."
        )
    algorithm: type[Algorithm] = found
    return algorithm


def make_algorithm(name: str, *, preset: Preset = "default", suite: str = "", **overrides: Any) -> Algorithm:
    """Training method by name, with the settings of a preset and a suite.

    Args:
        name: as for `find_algorithm`.
        preset: `default` or `paper`. Neither repeats two accidents of the reference: duplicated rows, and normalisation
            by micro-batch.
        suite: one of `SUITES`, whose `kl_coef` and `invalid_penalty` to take; for an environment of your own, the one
            whose rewards are like it. Not needed if both are among the overrides.
        **overrides: settings of the method.

    Raises:
        UnknownName: there is no such method, preset, suite or setting.
        InvalidOption: a setting has a wrong type or is out of range; the class is no algorithm; the settings of the
            suite are missing.
    """
    algorithm = find_algorithm(name)
    check_names(algorithm, overrides)
    if preset not in _PRESETS:
        known = get_args(Preset)
        raise UnknownName(f"no preset {preset!r}; there is {', '.join(known)}.{did_you_mean(preset, known)}")
    of_suite = SUITES.get(suite)
    # An own method may lack some of the settings.
    fields = {field.name for field in dataclasses.fields(algorithm)}  # type: ignore[arg-type]
    if of_suite is None:
        open_settings = [setting for setting in SUITES["alfworld"] if setting in fields - set(overrides)]
        if open_settings:
            what = f"no settings of the suite {suite!r}" if suite else "no suite is given"
            names = " and ".join(open_settings)
            raise (UnknownName if suite else InvalidOption)(
                f"{what}, which {name} needs for {names}: name the suite whose rewards are like yours, one of "
                f"{', '.join(SUITES)} (--suite alfworld), or set {names}.{did_you_mean(suite, SUITES)}"
            )
    defaults = {**_PRESETS[preset], **(of_suite or {})}
    return algorithm(**{**{key: value for key, value in defaults.items() if key in fields}, **overrides})
