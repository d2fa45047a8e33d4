from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.tiny_chat import save_tiny_chat
from helpers.training_runs import run_config

from sdar_agents.configs import recipe_names
from sdar_agents.engines.transformers import load_model
from sdar_agents.learner import Learner, LearnerSettings
from sdar_agents.training.checks.memory_plan import ARCHITECTURES, plan_memory
from sdar_agents.training.config import load_config
from sdar_agents.training.saving.adapters import add_adapters
from sdar_agents.types import Row
from sdar_benchmarks.cli.main import main

SIZES = {
    "Qwen/Qwen2.5-0.5B-Instruct": 494_032_768,
    "Qwen/Qwen2.5-1.5B-Instruct": 1_543_714_304,
    "Qwen/Qwen2.5-3B-Instruct": 3_085_938_688,
    "Qwen/Qwen2.5-7B-Instruct": 7_615_616_512,
    "Qwen/Qwen3-1.7B": 1_720_574_976,
    "Qwen/Qwen3-8B": 8_190_735_360,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_chat(tmp_path_factory.mktemp("model"))


def test_a_folder_of_adapters_takes_what_their_model_takes(model: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(model)}))
    assert plan_memory(run_config(tmp_path), processes=1).kept == plan_memory(run_config(model), processes=1).kept


@pytest.mark.parametrize("lora", [None, {"rank": 4}])
def test_what_a_run_keeps_is_what_it_holds(lora: dict[str, int] | None, model: Path) -> None:
    config = run_config(model, method="sdar", model={"lora": lora}, learner={"teacher": "ema"})
    plan = plan_memory(config, processes=1)
    whole, _ = load_model(str(model), device="cpu", dtype="float32")
    if config.model.lora is not None:
        whole = add_adapters(whole, config.model.lora, seed=0)
    settings = LearnerSettings(lr=1e-3, teacher="ema", gradient_parts_every=0)
    learner = Learner(whole, config.make_algorithm(), settings, pad_id=0)
    learner.learn([Row((1, 2), (3, 4), None, "g", f"e{i}", 0, float(i), teacher_prompt_ids=(1,)) for i in range(2)], 1)
    trained = sum(parameter.numel() for parameter in whole.parameters() if parameter.requires_grad)
    assert plan.trained == trained
    states = sum(
        tensor.nbytes for state in learner.optimizer.state.values() for tensor in state.values() if tensor.dim()
    )
    assert plan.kept["weights"] == sum(parameter.nbytes for parameter in whole.parameters())
    assert plan.kept["AdamW"] == states
    assert learner.average is not None
    assert plan.kept["moving average of the teacher"] == sum(t.nbytes for t in learner.average.state_dict().values())
    assert plan.kept["reference"] == plan.update["gradient"] == 4 * trained
    halved = plan_memory(config, processes=2)
    assert halved.kept["AdamW"] == states / 2
    assert halved.kept["copy for generation"] == 4 * plan.parameters
    elsewhere = replace(config.learner, reference_engine={"servers": ["http://a:1"]})
    assert plan.kept.keys() - plan_memory(replace(config, learner=elsewhere), processes=1).kept == {"reference"}


def test_published_models_have_their_published_sizes() -> None:
    config = load_config("alfworld-qwen2.5-3b-1gpu")
    for name, size in SIZES.items():
        assert plan_memory(replace(config, model=replace(config.model, path=name)), processes=1).parameters == size


def test_recipes_are_of_the_known_models_and_of_official_data() -> None:
    assert len(recipe_names()) == 3 * 6 * 3
    for name in recipe_names():
        config = load_config(name)
        assert config.model.path in ARCHITECTURES
        assert config.rollout.env_kwargs["data"] == "official"


@pytest.mark.slow
@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_fits_its_gpus(name: str) -> None:
    processes = int(name.rpartition("-")[2].removesuffix("gpu"))
    plan = plan_memory(load_config(name), processes=processes)
    assert plan.fits(80), plan.render(80)


def test_the_command_says_whether_a_run_fits(capsys: pytest.CaptureFixture[str]) -> None:
    line = ["train", "--config", "alfworld-qwen2.5-3b-1gpu", "--plan", "--gpu-memory"]
    assert main([*line, "80"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("Qwen/Qwen2.5-3B-Instruct, sdar, one process: 3.086 billion parameters")
    assert "fits: 67.6 GiB" in told
    assert main([*line, "24"]) == 1
    assert "does not fit" in capsys.readouterr().out
    assert main(["train", "--config", "alfworld-qwen2.5-3b-1gpu", "--gpu-memory", "80"]) == 2
    assert "with --plan" in capsys.readouterr().err


def test_a_plan_loads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn.init, "normal_", lambda tensor, *_, **__: tensor if tensor.is_meta else 1 / 0)
    assert plan_memory(load_config("webshop-qwen2.5-7b-8gpu"), processes=8).parameters == 7_615_616_512
