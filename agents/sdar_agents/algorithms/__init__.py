"""The methods by name, and their presets.

`make_algorithm("sdar", suite="webshop", beta=10)` makes one. A preset fills in what a suite wants; single settings
override it. Importing this loads torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, get_args

from sdar_agents.algorithms.grpo import GRPO, LossOutput
from sdar_agents.algorithms.opsd import OPSD, GRPOWithOPSD
from sdar_agents.algorithms.rlsd import RLSD
from sdar_agents.algorithms.sdar import SDAR, GRPOWithOPSDBeta0, OPSDScript
from sdar_agents.algorithms.skill_grpo import SkillGRPO
from sdar_agents.algorithms.skill_sd import SkillSD
from sdar_agents.settings.checks import check_names
from sdar_envs.errors import UnknownName, did_you_mean

__all__ = [
    "ALGORITHMS",
    "GRPO",
    "OPSD",
    "RLSD",
    "SDAR",
    "SUITES",
    "GRPOWithOPSD",
    "GRPOWithOPSDBeta0",
    "LossOutput",
    "OPSDScript",
    "Preset",
    "SkillGRPO",
    "SkillSD",
    "make_algorithm",
]

Preset = Literal["default", "paper"]
"""`paper`: the reference's settings. `default`: no entropy bonus, the zero-range rule, the sampler's cap."""

ALGORITHMS: Mapping[str, type[GRPO]] = MappingProxyType(
    {
        "grpo": GRPO,
        "grpo_opsd": GRPOWithOPSD,
        "grpo_opsd_beta0": GRPOWithOPSDBeta0,
        "opsd": OPSD,
        "opsd_script": OPSDScript,
        "rlsd": RLSD,
        "sdar": SDAR,
        "skill_grpo": SkillGRPO,
        "skill_sd": SkillSD,
    }
)
"""The methods by name."""

SUITES: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "alfworld": MappingProxyType({"kl_coef": 0.01, "invalid_penalty": 0.1}),
        "search_qa": MappingProxyType({"kl_coef": 0.001, "invalid_penalty": 0.01}),
        "webshop": MappingProxyType({"kl_coef": 0.01, "invalid_penalty": 0.1}),
    }
)
"""What differs between the suites, in both presets. Source: the reference's scripts, which agree on it."""

_PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "default": MappingProxyType({"entropy_coef": 0.0, "zero_range": 1e-6, "sampler_cap": 2.0}),
        "paper": MappingProxyType({"entropy_coef": 0.001, "zero_range": 0.0, "sampler_cap": None}),
    }
)


def make_algorithm(name: str, *, preset: Preset = "default", suite: str = "alfworld", **overrides: Any) -> GRPO:
    """Make a method by name.

    Args:
        name: one of `ALGORITHMS`.
        preset: `default` or `paper`. Both leave out what the reference does by accident: rows that are duplicated, and
            normalisation by micro-batch.
        suite: one of `SUITES`; for an environment of your own, take the one whose rewards are like it.
        **overrides: settings of the method.

    Raises:
        UnknownName: there is no such method, preset, suite or setting.
        InvalidOption: a setting has a wrong type or is out of range.
    """
    for what, given, known in (
        ("method", name, tuple(ALGORITHMS)),
        ("preset", preset, get_args(Preset)),
        ("suite", suite, tuple(SUITES)),
    ):
        if given not in known:
            raise UnknownName(f"no {what} {given!r}; there is {', '.join(known)}.{did_you_mean(given, known)}")
    algorithm = ALGORITHMS[name]
    check_names(algorithm, overrides)
    return algorithm(**{**_PRESETS[preset], **SUITES[suite], **overrides})
