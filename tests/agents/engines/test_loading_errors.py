"""Models that cannot be loaded: one line that says what is missing and what to do."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.tiny_chat import save_tiny_chat

from sdar_agents.engines.loading_errors import loading_error
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


def pickled(folder: Path, name: str = "pytorch_model.bin") -> None:
    (folder / "model.safetensors").unlink()
    with open(folder / name, "wb") as file:
        pickle.dump(Runs(str(folder / "was run")), file)


class Runs:
    """An object whose pickle makes a folder when it is read."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (self.path,)


def pickled_adapters(folder: Path) -> None:
    pickled(folder, "adapter_model.bin")
    config = {"base_model_name_or_path": str(folder), "peft_type": "LORA", "r": 2, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))


def damage(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize(
    ("harm", "wanted"),
    [
        (without_tokenizer, r"has no tokenizer: copy tokenizer\.json"),
        (remote_code, r"code of its own, which is not run here \(trust_remote_code\): choose"),
        (pickled, r"pickled \(pytorch_model\.bin\).*run code: wanted safetensors.*save_pretrained\(NEW_FOLDER\)"),
        (lambda folder: pickled(folder, "weights.pt"), r"its weights are pickled \(weights\.pt\)"),
        (lambda folder: pickled(folder, "model.pkl"), r"its weights are pickled \(model\.pkl\)"),
        (pickled_adapters, r"its weights are pickled \(adapter_model\.bin\)"),
        (lambda folder: (folder / "config.json").unlink(), r"the folder has no config\.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), r"no file named model\.safetensors"),
        (damage, r"its weights are damaged .*: copy or download them again"),
        (lambda folder: change(folder, "config.json", model_type="unheard_of"), r"update it by pip install --upgrade"),
        (lambda folder: change(folder, "config.json", model_type="clip"), r"it is no causal language model"),
    ],
    ids=[
        "tokenizer",
        "remote code",
        "bin",
        "pt",
        "pkl",
        "pickled adapters",
        "configuration",
        "weights",
        "damage",
        "architecture",
        "kind",
    ],
)
def test_what_is_wrong_with_a_folder_is_one_line(
    harm: Callable[[Path], object], wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question was asked"))
    save_tiny_chat(tmp_path / "model")
    harm(tmp_path / "model")
    with pytest.raises(InvalidOption, match=rf"the model .*model' cannot be loaded.*{wanted}") as caught:
        load_model(str(tmp_path / "model"), device="cpu")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    assert not (tmp_path / "model" / "was run").exists()


def test_an_empty_tokenizer_is_none(tmp_path: Path) -> None:
    save_tiny_chat(tmp_path / "model")
    without_tokenizer(tmp_path / "model")
    (tmp_path / "model" / "vocab.json").write_text("{}")
    (tmp_path / "model" / "merges.txt").touch()
    with pytest.raises(InvalidOption, match="has no tokenizer"):
        load_model(str(tmp_path / "model"), device="cpu")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("pytorch_model.bin", r"its weights are pickled \(pytorch_model\.bin\)"),
        ("model.safetensors", "it is a file: name"),
    ],
)
def test_a_file_of_weights_is_no_model(name: str, wanted: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    with pytest.raises(InvalidOption, match=wanted):
        load_model(str(tmp_path / name), device="cpu")


def test_a_name_on_the_hub_with_pickled_weights_is_answered_the_same() -> None:
    text = (
        "acme/old does not appear to have a file named model.safetensors or model.safetensors.index.json and thus "
        "cannot be loaded with `safetensors`. Please do not set `use_safetensors=True`."
    )
    assert "its weights are pickled" in str(loading_error("acme/old", "cpu", OSError(text)))


def test_other_pickles_beside_the_weights_are_not_read(tmp_path: Path) -> None:
    save_tiny_chat(tmp_path / "model")
    with open(tmp_path / "model" / "training_args.bin", "wb") as file:
        pickle.dump(Runs(str(tmp_path / "was run")), file)
    load_model(str(tmp_path / "model"), device="cpu")
    assert not (tmp_path / "was run").exists()


def test_the_code_of_a_tokenizer_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question was asked"))
    folder = save_tiny_chat(tmp_path / "model")
    (folder / "own.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'was run')!r})\nclass Own: pass\n")
    change(folder, "tokenizer_config.json", tokenizer_class="Own", auto_map={"AutoTokenizer": [None, "own.Own"]})
    load_model(str(folder), device="cpu")
    assert not (tmp_path / "was run").exists()


def test_a_folder_that_is_not_there_names_the_closest_and_the_one_above_what_it_holds(tmp_path: Path) -> None:
    save_tiny_chat(tmp_path / "step-000012" / "model")
    with pytest.raises(InvalidOption, match=r"there is no such folder\. Did you mean 'step-000012'\?"):
        load_model(str(tmp_path / "step-00012"), device="cpu")
    with pytest.raises(InvalidOption, match=r"no config\.json; model in it has one"):
        load_model(str(tmp_path / "step-000012"), device="cpu")


def test_a_model_loads_after_all_that(tmp_path: Path) -> None:
    shutil.copytree(save_tiny_chat(tmp_path / "model"), tmp_path / "copy")
    assert load_model(str(tmp_path / "copy"), device="cpu")[0].training is False
