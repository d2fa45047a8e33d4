"""The public conformance test: all methods pass it, and methods with one fault each do not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from sdar_agents import check_algorithm
from sdar_agents.algorithms import ALGORITHMS, GRPO, Declarations, TokenAdvantages
from sdar_agents.learner import conformance
from sdar_envs.errors import InvalidOption, UnknownName

torch.set_num_threads(1)

# One of each kind; the others are in the slow tests.
QUICK = ("agentopsd", "sdar", "ucob")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in ALGORITHMS]
)
def test_every_method_conforms(name: str) -> None:
    report = check_algorithm(name)
    assert report.ok, str(report)
    assert set(report.passed) >= {"padding", "finite", "micro-batches", "row order", "resume"}
    assert ("off" in report.passed) == (name not in ("grpo", "skill_grpo"))
    assert ("bounds" in report.passed) == (name in ("agentopsd", "grsd", "ocsd", "rlsd", "serl", "stepopsd"))


@dataclass(frozen=True, kw_only=True)
class Padded(GRPO):
    """Reads tokens outside the mask."""

    def advantages(self, rows: Any, batch: Any) -> Any:
        advantages, metrics = super().advantages(rows, batch)
        return advantages + batch.student.input_ids[:, -1] / 50, metrics


@dataclass(frozen=True, kw_only=True)
class Explosive(GRPO):
    """Multiplies by an exponential without bounds."""

    needs_teacher: ClassVar[bool] = True

    def token_advantages(self, batch: Any, scores: Any, step: int) -> TokenAdvantages:
        gap = batch.part("teacher_logprobs") - batch.part("old_logprobs")
        return TokenAdvantages(batch.part("advantages")[:, None] * (2 * gap).exp())

    def declarations(self) -> Declarations:
        return Declarations(bounds=(0.5, 1.5))


@dataclass(frozen=True, kw_only=True)
class Averaged(GRPO):
    """Divides by what the micro-batch holds."""

    def token_advantages(self, batch: Any, scores: Any, step: int) -> TokenAdvantages:
        advantages = batch.part("advantages")
        return TokenAdvantages(advantages - advantages.mean())


@dataclass(frozen=True, kw_only=True)
class Ordered(GRPO):
    """Trains the first row more."""

    def advantages(self, rows: Any, batch: Any) -> Any:
        advantages, metrics = super().advantages(rows, batch)
        return advantages * torch.linspace(2, 1, len(rows)), metrics


_SEEN: list[int] = []


@dataclass(frozen=True, kw_only=True)
class Forgetful(GRPO):
    """Counts its steps where no checkpoint looks."""

    def advantages(self, rows: Any, batch: Any) -> Any:
        _SEEN.append(1)
        advantages, metrics = super().advantages(rows, batch)
        return advantages * len(_SEEN), metrics


@dataclass(frozen=True, kw_only=True)
class NeverOff(GRPO):
    """Says that its coefficient switches it off."""

    strength: float = 1.0

    def advantages(self, rows: Any, batch: Any) -> Any:
        advantages, metrics = super().advantages(rows, batch)
        return advantages + 0.01, metrics

    def declarations(self) -> Declarations:
        return Declarations(off={"strength": 0.0}, base=GRPO)


@dataclass(frozen=True, kw_only=True)
class Broken(GRPO):
    """Raises."""

    def advantages(self, rows: Any, batch: Any) -> tuple[Tensor, dict[str, Any]]:
        raise ZeroDivisionError("of its own")


FAULTS: tuple[tuple[type[GRPO], Any], ...] = (
    (Padded, conformance._padding),
    (Explosive, conformance._finite),
    (Explosive, conformance._bounds),
    (Averaged, conformance._micro_batches),
    (Ordered, conformance._row_order),
    (Forgetful, conformance._resume),
    (NeverOff, conformance._off),
)


@pytest.mark.parametrize(("method", "test"), FAULTS)
def test_a_fault_is_found_by_its_test_and_by_no_method_without_it(method: type[GRPO], test: Any) -> None:
    assert test(method(), method().declarations()) != ""
    assert test(GRPO(), Declarations(off={"kl_coef": 0.01}, base=GRPO, bounds=(1.0, 1.0))) == ""


def test_a_method_that_raises_fails_and_the_report_says_how() -> None:
    report = check_algorithm(Broken())
    assert not report.ok
    assert report.passed == ("finite",)
    assert "  FAILS         resume: ZeroDivisionError: of its own" in str(report)
    assert "  not declared  bounds" in str(report)


def test_a_method_is_named_as_everywhere() -> None:
    report = check_algorithm("grpo", kl_coef=0.0)
    assert str(report).splitlines()[0] == "grpo: conforms"
    assert report.not_declared == ("off", "bounds")
    with pytest.raises(UnknownName, match="Did you mean 'rlsd'"):
        check_algorithm("rlds")
    with pytest.raises(InvalidOption, match="settings came with an instance: kl_coef"):
        check_algorithm(GRPO(), kl_coef=0.0)


def test_its_rows_hold_what_methods_read() -> None:
    rows = conformance._rows()
    assert {row.is_success for row in rows} == {True, False}
    assert len({row.state for row in rows}) < len(rows)
    assert any(row.more_teacher_prompts for row in rows)
    assert any(row.teacher_prompt_ids is None for row in rows)
    assert any(row.is_truncated for row in rows)
    assert any(not row.response_ids for row in rows)
    assert replace(rows[0]) == conformance._rows()[0]
