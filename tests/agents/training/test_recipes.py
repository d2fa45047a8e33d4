"""Recipes on small data of official shape: published widths and heads, two layers, a small vocabulary."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from helpers.tiny_chat import tiny_tokenizer

from sdar_agents.scoring.precision import is_bfloat16_emulated
from sdar_agents.training.checks.memory_plan import ARCHITECTURES
from sdar_agents.training.config import load_config
from sdar_agents.training.trainer import Trainer
from sdar_envs.alfworld.export import export_game

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parents[2]

# Each model once, each suite twice.
RECIPES = (
    "alfworld-qwen2.5-1.5b-1gpu",
    "webshop-qwen2.5-3b-1gpu",
    "search_qa-qwen2.5-7b-1gpu",
    "search_qa-qwen3-1.7b-1gpu",
    "alfworld-qwen3-4b-1gpu",
    "webshop-qwen3-8b-1gpu",
)


def save_model(name: str, folder: Path) -> Path:
    """Two layers of a published model, with the tokenizer of the tests."""
    tokenizer = tiny_tokenizer()
    fields = dict(ARCHITECTURES[name]) | {"num_hidden_layers": 2, "vocab_size": len(tokenizer)}
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = transformers.AutoConfig.for_model(fields.pop("model_type"), **fields, **ids)
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def official_data(suite: str, folder: Path) -> dict[str, Any]:
    """Arguments of the environment, with data of the official shape."""
    if suite == "alfworld":
        for index in range(3):
            export_game("train", index, folder / "json_2.1.1", wording="put")
        return {"data_dir": str(folder)}
    if suite == "webshop":
        return {"data_dir": str(TESTS / "envs" / "webshop" / "data" / "catalogue_plain1000")}
    rows = [{"id": f"train_{i}", "question": f"who wrote book {i}", "golden_answers": ["me"]} for i in range(4)]
    (folder / "nq").mkdir(parents=True)
    (folder / "nq" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"data_dir": str(folder), "retriever": "embedded"}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_takes_two_steps_on_the_cpu(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDAR_CACHE_DIR", str(tmp_path / "cache"))
    model = save_model(load_config(name).model.path, tmp_path / "model")
    data = official_data(name.partition("-")[0], tmp_path / "data")
    # Emulated, the products of these widths would take an hour.
    is_emulated = is_bfloat16_emulated(torch.device("cpu"))
    in_float32 = {"model.dtype": "float32", "model.generation_dtype": "float32", "learner.autocast": "false"}
    overrides = {
        "model.path": model,
        "steps": 2,
        "tasks_per_step": 1,
        "group_size": 2,
        "rollout.max_new_tokens": 4,
        "rollout.env_kwargs.max_steps": 2,
        "skills.k": 1,
        "learner.mini_batches": 1,
        "learner.max_tokens": 4096,
        "evaluation.every": 0,
        "checkpoints.every": 0,
        "log.tracker": "none",
        "log.progress": "false",
        **{f"rollout.env_kwargs.{key}": value for key, value in data.items()},
        **(in_float32 if is_emulated else {}),
    }
    arguments = [part for key, value in overrides.items() for part in (f"--{key}", str(value))]
    Trainer(load_config(name, arguments), tmp_path / "run").run()
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]
    for row in rows:
        assert row["optimizer/updates"] == 1
        assert math.isfinite(row["loss/total"])
        assert row["distill/has_teacher"] == 1.0
        # A copy of the weights generates, and the loss corrects for its rounding.
        assert 0 < row["sampler/difference"] < 0.5
