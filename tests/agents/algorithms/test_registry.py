"""Methods by name, of one's own, and their presets."""

import dataclasses
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_models import PAD, random_rows

from sdar_agents.algorithms import ALGORITHMS, GRPO, SDAR, SUITES, find_algorithm
from sdar_agents.algorithms import make_algorithm as make_any_algorithm
from sdar_agents.scoring.batch import make_batch
from sdar_agents.scoring.options import ScoringOptions
from sdar_envs.errors import InvalidOption, UnknownName


def make_algorithm(name: str, **settings: Any) -> Any:
    return make_any_algorithm(name, **({"suite": "alfworld"} | settings))


PUBLISHED = {
    # Appendix C: coefficient and beta. The coefficient of RLSD is its mixing weight.
    "opsd_script": {"pg_coef": 0.0, "distill_coef": 0.01, "beta": 5.0},
    "opsd": {"pg_coef": 0.0, "distill_coef": 0.01},
    "skill_sd": {"distill_coef": 0.001},
    "grpo_opsd": {"pg_coef": 1.0, "distill_coef": 0.01},
    "grpo_opsd_beta0": {"pg_coef": 1.0, "distill_coef": 0.01, "beta": 0.0},
    "rlsd": {"shaping_coef": 0.5, "warmdown_steps": 100, "weight_clip": 0.2},
    "sdar": {"distill_coef": 0.01, "beta": 5.0, "gate": "gap", "gate_center": False, "divergence": "sampled"},
    "grpo": {},
    "skill_grpo": {},
    # What their released code, or a summary of the paper, sets; see each method's module.
    "gigpo": {"step_coef": 1.0, "gamma": 0.95, "advantage_std": False},
    "serl": {"shaping_coef": 0.5, "warmdown_steps": 50, "weight_clip": 0.2, "shaped_tokens": "answer"},
    "stepopsd": {"shaping_coef": 0.5, "warmdown_steps": 50, "aggregation": "seq-mean-token-mean"},
    "ocsd": {"shaping_coef": 0.5, "warmdown_steps": 0, "turn_share": 0.2},
    "agentopsd": {"shaping_coef": 0.5, "weight_clip": 0.2, "slope": 0.2, "gamma": 1.0, "return_scale": None},
    "grsd": {"shaping_coef": 0.5, "g_max": 0.2, "dead_zone": 0.0, "scale_by_group": True},
    "opid": {"episode_coef": 0.001, "step_coef": 0.001, "routing": "step_priority"},
    "adrs": {"eta": 0.02, "shaping_clip": 0.2, "first_step": 21, "last_step": 70, "signal": "teacher"},
    "sdpo": {"pg_coef": 0.0, "distill_coef": 1.0, "divergence": "jsd_topk", "top_k": 100, "ratio_clip": 2.0},
    "ucob": {"distill_coef": 0.1, "beta": 5.0, "top_k": 32, "step_coef": 1.0, "advantage_std": False},
}


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("preset", ["default", "paper"])
def test_presets_hold_the_published_settings(name: str, suite: str, preset: Any) -> None:
    got = dataclasses.asdict(make_algorithm(name, suite=suite, preset=preset))
    search = suite == "search_qa"
    expected = {
        "clip_low": 0.2,
        "clip_high": 0.2,
        "dual_clip": 3.0,
        "kl_kind": "k3",
        "kl_coef": 0.001 if search else 0.01,
        "invalid_penalty": 0.01 if search else 0.1,
        "aggregation": "token-mean",
        "advantage_stats": "turn",
        "advantage_std": True,
        "penalty_after": False,
        "entropy_coef": 0.001 if preset == "paper" else 0.0,
        "zero_range": 0.0 if preset == "paper" else 1e-6,
        "sampler_cap": None if preset == "paper" else 2.0,
    } | PUBLISHED[name]
    assert {key: got[key] for key in expected} == expected


def test_what_each_method_needs() -> None:
    needs = {name: make_algorithm(name) for name in ALGORITHMS}
    assert {name for name, a in needs.items() if not a.needs_teacher} == {"gigpo", "grpo", "skill_grpo"}
    assert {name for name, a in needs.items() if a.student_sees_skills} == {"skill_grpo"}
    assert all(a.needs_reference for a in needs.values())
    assert not make_algorithm("grpo", kl_coef=0.0).needs_reference


def test_each_method_declares_what_it_needs_of_the_scores() -> None:
    base = ScoringOptions(temperature=0.7, packing=True)
    for name in ALGORITHMS.keys() - {"sdpo", "ucob"}:
        assert make_algorithm(name).scoring_options(base) == base
    assert make_algorithm("grpo", preset="paper").scoring_options(base) == dataclasses.replace(base, entropies=True)
    assert SDAR(gate="soft_or").scoring_options(base).entropies
    sdar = SDAR(divergence="rkl_topk", top_k=3)
    assert sdar.scoring_options(base) == dataclasses.replace(base, divergence="rkl_topk", top_k=3)
    sdpo = dataclasses.replace(base, divergence="jsd_topk", top_k=100)
    assert make_algorithm("sdpo").scoring_options(base) == sdpo
    ucob = dataclasses.replace(base, divergence="fkl_renormalised", top_k=32, top_of="teacher")
    assert make_algorithm("ucob").scoring_options(base) == ucob
    assert not make_algorithm("adrs").scoring_options(base).entropies
    assert make_algorithm("adrs", window_entropy_coef=0.01).scoring_options(base).entropies
    assert GRPO().scoring_options(ScoringOptions(entropies=True)).entropies


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": "sdrar"}, UnknownName, "no method 'sdrar'.*Did you mean 'sdar'"),
        ({"preset": "papr"}, UnknownName, "Did you mean 'paper'"),
        ({"suite": "alf_world"}, UnknownName, "Did you mean 'alfworld'"),
        ({"betta": 5}, UnknownName, "SDAR has no setting 'betta'.*Did you mean 'beta'"),
        ({"name": "grpo", "beta": 5}, UnknownName, "GRPO has no setting 'beta'"),
        ({"beta": "5"}, InvalidOption, "SDAR.beta is '5'; wanted a number of at least 0"),
        ({"beta": True}, InvalidOption, "wanted a number"),
        ({"beta": -1.0}, InvalidOption, "of at least 0"),
        ({"beta": math.nan}, InvalidOption, "SDAR.beta is nan"),
        ({"top_k": 2.5}, InvalidOption, "wanted a whole number of at least 1"),
        ({"gate": "gaps"}, InvalidOption, "Did you mean 'gap'"),
        ({"gate": ["gap"]}, InvalidOption, "wanted one of"),
        ({"gate_center": 1}, InvalidOption, "wanted true or false"),
        ({"dual_clip": 1.1}, InvalidOption, "below 1 \\+ clip_high"),
        ({"dual_clip": "3"}, InvalidOption, "or null"),
        ({"clip_low": 1.5}, InvalidOption, "from 0 to 1"),
        ({"aggregation": "seq-mean-token-sum-norm"}, InvalidOption, "response_limit"),
        ({"advantage_stats": "episode"}, InvalidOption, "Set penalty_after or invalid_penalty=0"),
        ({"name": "grpo_opsd_beta0", "beta": 5}, InvalidOption, "from 0 to 0"),
    ],
)
def test_wrong_settings_say_what_was_wanted(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make_algorithm(**({"name": "sdar"} | arguments))


OWN = """
from dataclasses import dataclass
from sdar_agents.algorithms import GRPO
from sdar_agents.settings.checks import setting


@dataclass(frozen=True, kw_only=True)
class Scaled(GRPO):
    scale: float = setting(1.0, low=0)

    def advantages(self, rows, batch):
        values, metrics = super().advantages(rows, batch)
        return self.scale * values, metrics


@dataclass(frozen=True, kw_only=True)
class Half:
    needs_teacher = False
    aggregation: str = "token-mean"


class Undecorated(GRPO):
    scale: float = 1.0


class Renamed(Scaled):
    pass


def function():
    pass
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_methods.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    monkeypatch.delitem(sys.modules, "own_methods", raising=False)
    return "own_methods"


def test_a_method_of_ones_own_is_named_by_module_and_class(own_module: str) -> None:
    algorithm = make_algorithm(f"{own_module}:Scaled", suite="search_qa", preset="paper", scale=2.0)
    assert isinstance(algorithm, GRPO)
    assert (algorithm.kl_coef, algorithm.entropy_coef) == (0.001, 0.001)
    rows = random_rows(8)
    batch = make_batch(rows, pad_id=PAD)
    assert torch.equal(algorithm.advantages(rows, batch)[0], 2 * make_algorithm("grpo").advantages(rows, batch)[0])
    with pytest.raises(UnknownName, match=r"Scaled has no setting 'scales'.*Did you mean 'scale'"):
        make_algorithm(f"{own_module}:Scaled", scales=2.0)
    with pytest.raises(InvalidOption, match=r"Scaled.scale is -1; wanted a number of at least 0"):
        make_algorithm(f"{own_module}:Scaled", scale=-1)
    assert find_algorithm("sdar") is SDAR


def test_what_is_no_method_says_what_is_missing(own_module: str) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'Scaled'"):
        make_algorithm(f"{own_module}:Scale")
    with pytest.raises(InvalidOption, match=r"Half is no algorithm, it has no .*needs_reference.*loss: inherit from"):
        make_algorithm(f"{own_module}:Half")
    with pytest.raises(InvalidOption, match=r"settings that are no fields: scale. Put @dataclass"):
        make_algorithm(f"{own_module}:Undecorated", scale=2.0)
    assert make_algorithm(f"{own_module}:Renamed", scale=2.0).scale == 2.0
    with pytest.raises(InvalidOption, match=r"wanted a class that is an algorithm: inherit from"):
        make_algorithm(f"{own_module}:function")


def test_a_suite_without_settings_must_name_one_that_has_them() -> None:
    with pytest.raises(UnknownName, match=r"no settings of the suite 'acme', which sdar needs for kl_coef and invalid"):
        make_any_algorithm("sdar", suite="acme")
    with pytest.raises(InvalidOption, match=r"no suite is given.*alfworld, search_qa, webshop \(--suite alfworld\)"):
        make_any_algorithm("sdar")
    with pytest.raises(InvalidOption, match=r"for invalid_penalty: .* or set invalid_penalty"):
        make_any_algorithm("sdar", kl_coef=0.02)
    own = make_any_algorithm("sdar", suite="acme", kl_coef=0.02, invalid_penalty=0.0)
    assert isinstance(own, SDAR)
    assert (own.kl_coef, own.invalid_penalty, own.sampler_cap) == (0.02, 0.0, 2.0)
