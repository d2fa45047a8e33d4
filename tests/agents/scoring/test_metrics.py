import math

import pytest
import torch

from sdar_agents.scoring.metrics import masked_metric, merge_metrics, reduce_metrics, summarise
from sdar_envs.errors import InvalidOption


def test_means_of_pieces_are_the_mean_of_the_whole() -> None:
    values = torch.tensor([[1.0, 2.0, 99.0], [3.0, 99.0, 99.0], [8.0, 10.0, 12.0]])
    mask = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1]]).bool()
    pieces = [{"x": masked_metric(values[i : i + 1], mask[i : i + 1], spread=True)} for i in range(3)]
    summary = summarise(merge_metrics(pieces))
    kept = values[mask]
    assert summary["x"] == pytest.approx(kept.mean().item())
    assert summary["x_std"] == pytest.approx(kept.std(correction=0).item())
    assert reduce_metrics(merge_metrics(pieces)) == merge_metrics(pieces)


def test_what_is_not_kept_is_not_read() -> None:
    metric = masked_metric(torch.tensor([1.0, math.nan]), torch.tensor([True, False]))
    assert summarise({"x": metric}) == {"x": 1.0}


def test_no_weight_is_no_number() -> None:
    metric = masked_metric(torch.zeros(2), torch.zeros(2, dtype=torch.bool), spread=True)
    summary = summarise({"x": metric})
    assert math.isnan(summary["x"])
    assert math.isnan(summary["x_std"])


def test_a_mask_of_another_shape_is_refused() -> None:
    with pytest.raises(InvalidOption, match=r"mask must have the shape of values, \(3, 3\): got \(3,\)"):
        masked_metric(torch.zeros(3, 3), torch.ones(3, dtype=torch.bool))
