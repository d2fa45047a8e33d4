"""Models that cannot be loaded: one line that says what is missing and what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.tiny_chat import save_tiny_chat

from sdar_agents.engines.transformers import load_model
from sdar_envs.errors import InvalidOption


def without_tokenizer(folder: Path) -> None:
    for path in folder.glob("*token*"):
        path.unlink()
    (folder / "chat_template.jinja").unlink()


def change(folder: Path, name: str, **values: object) -> None:
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def remote_code(folder: Path) -> None:
    change(folder, "config.json", model_type="own", auto_map={"AutoModelForCausalLM": "modeling_own.Own"})
    change(folder, "config.json", auto_map={"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.OwnModel"})


def damage(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize(
    ("harm", "wanted"),
    [
        (without_tokenizer, r"has no tokenizer: copy tokenizer\.json"),
        (remote_code, r"code of its own, which is not run here \(trust_remote_code\): choose"),
        (lambda folder: (folder / "config.json").unlink(), r"the folder has no config\.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), r"no file named model\.safetensors"),
        (damage, r"its weights are damaged .*: copy or download them again"),
        (lambda folder: change(folder, "config.json", model_type="unheard_of"), r"update it by pip install --upgrade"),
        (lambda folder: change(folder, "config.json", model_type="clip"), r"it is no causal language model"),
    ],
    ids=["tokenizer", "remote code", "configuration", "weights", "damage", "architecture", "kind"],
)
def test_what_is_wrong_with_a_folder_is_one_line(
    harm: Callable[[Path], object], wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    save_tiny_chat(tmp_path / "model")
    harm(tmp_path / "model")
    with pytest.raises(InvalidOption, match=rf"the model .*model' cannot be loaded.*{wanted}") as caught:
        load_model(str(tmp_path / "model"), device="cpu")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_an_empty_tokenizer_is_none(tmp_path: Path) -> None:
    save_tiny_chat(tmp_path / "model")
    without_tokenizer(tmp_path / "model")
    (tmp_path / "model" / "vocab.json").write_text("{}")
    (tmp_path / "model" / "merges.txt").touch()
    with pytest.raises(InvalidOption, match="has no tokenizer"):
        load_model(str(tmp_path / "model"), device="cpu")


def test_a_folder_that_is_not_there_names_the_closest_and_the_one_above_what_it_holds(tmp_path: Path) -> None:
    save_tiny_chat(tmp_path / "step-000012" / "model")
    with pytest.raises(InvalidOption, match=r"there is no such folder\. Did you mean 'step-000012'\?"):
        load_model(str(tmp_path / "step-00012"), device="cpu")
    with pytest.raises(InvalidOption, match=r"no config\.json; model in it has one"):
        load_model(str(tmp_path / "step-000012"), device="cpu")


def test_a_model_loads_after_all_that(tmp_path: Path) -> None:
    shutil.copytree(save_tiny_chat(tmp_path / "model"), tmp_path / "copy")
    assert load_model(str(tmp_path / "copy"), device="cpu")[0].training is False
