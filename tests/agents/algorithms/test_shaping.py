"""The shaping function, at the settings of each method that is one."""

import pytest
import torch

from sdar_agents.algorithms.schedules import warmed_down
from sdar_agents.algorithms.shaping import shape
from sdar_envs.errors import InvalidOption


def test_rlsd_by_hand() -> None:
    # exp(0.1) = 1.10517 stands; exp(1) and exp(-1) are clipped. A negative advantage turns the gap round.
    gap = torch.tensor([[0.1, 1.0, -1.0, 0.0]] * 3)
    shaped, weights = shape(torch.tensor([2.0, -2.0, 0.0]), gap, coefficient=0.5)
    assert weights[0].tolist() == pytest.approx([1.10517, 1.2, 0.8, 1.0], rel=1e-5)
    assert weights[1].tolist() == pytest.approx([0.90484, 0.8, 1.2, 1.0], rel=1e-5)
    assert shaped[0].tolist() == pytest.approx([2.10517, 2.2, 1.8, 2.0], rel=1e-5)
    assert shaped[1].tolist() == pytest.approx([-1.90484, -1.8, -2.2, -2.0], rel=1e-5)
    assert (shaped[2] == 0).all()


def test_rlsd_stays_finite_and_keeps_the_sign() -> None:
    gap = torch.tensor([[80.0, -80.0, 1e4, -1e4]])
    for advantage in (3.0, -3.0):
        shaped, _ = shape(torch.tensor([advantage]), gap, coefficient=1.0)
        assert torch.isfinite(shaped).all()
        assert (shaped.sign() == torch.tensor(advantage).sign()).all()
        assert (shaped.abs() <= 3.6 + 1e-6).all()


def test_rlsd_at_zero_is_the_rows_advantage_bit_for_bit() -> None:
    rows = torch.randn(50, generator=torch.Generator().manual_seed(0))
    gap = torch.randn(50, 9, generator=torch.Generator().manual_seed(1))
    shaped, _ = shape(rows, gap, coefficient=0.0)
    assert torch.equal(shaped, rows[:, None].expand(50, 9))


def test_rlsd_warms_down() -> None:
    def at(step: int, warmdown_steps: int = 100) -> float:
        return warmed_down(0.5, step, warmdown_steps)

    assert [at(1), at(50), at(99), at(100), at(150)] == pytest.approx([0.495, 0.25, 0.005, 0.0, 0.0])
    assert at(1000, warmdown_steps=0) == 0.5


def test_what_does_not_align_is_refused() -> None:
    row = torch.zeros(3)
    with pytest.raises(InvalidOption, match=r"advantages .*\(B,\) = \(3,\) of signal: got \(3, 3\)"):
        shape(torch.zeros(3, 3), torch.zeros(3, 3), coefficient=0.5)
    with pytest.raises(InvalidOption, match=r"signal must have the shape \(B, L\): got \(3,\)"):
        shape(row, row, coefficient=0.5)
    with pytest.raises(InvalidOption, match=r"no curve 'expo'; .* Did you mean 'exp'"):
        shape(row, torch.zeros(3, 3), coefficient=0.5, curve="expo")  # type: ignore[arg-type]
