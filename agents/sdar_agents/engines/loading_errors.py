"""Errors of loading a model: one line that says what is missing or wrong, and what to do.

transformers answers a folder without a tokenizer by an empty tokenizer, and a damaged one by whatever exception the
damage runs into.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sdar_envs.errors import InvalidOption, did_you_mean
from sdar_envs.files.json_text import read_json_object
from sdar_envs.files.weights import pickle_problem, pickled_weights

__all__ = ["adapted_model", "check_folder", "check_tokenizer", "loading_error"]

_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_LENGTH = 300


def check_folder(model: str) -> None:
    """Check, where a model is a folder, that it holds a configuration, a tokenizer, and no pickled weights alone.

    Raises:
        InvalidOption: it does not, it is a file, or the text can be no name on the hub and there is no such folder.
    """
    folder = Path(model).expanduser()
    pickled = pickled_weights(model)
    if pickled:
        raise _cannot(model, pickle_problem(pickled))
    if not folder.is_dir():
        if folder.is_file():
            raise _cannot(model, "it is a file: name the folder that it is in")
        if not _HUB_NAME.fullmatch(model):
            raise _cannot(model, "there is no such folder", _closest(folder))
        return
    names = {path.name for path in folder.iterdir()}
    if "adapter_config.json" in names:
        return  # `adapted_model` names the model, which is checked in its turn
    if "config.json" not in names:
        inner = [path.name for path in sorted(folder.iterdir()) if (path / "config.json").is_file()]
        hint = f"; {', '.join(inner)} in it has one" if inner else ""
        raise _cannot(model, f"the folder has no config.json{hint}: name a folder as save_pretrained writes it")
    vocabulary = ("token*.json", "token*.model", "vocab*", "spiece*", "sentencepiece*", "*.tiktoken", "tekken.json")
    if not any(next(folder.glob(pattern), None) for pattern in vocabulary):
        raise _no_tokenizer(model)


def adapted_model(model: str) -> str | None:
    """Return the model that the LoRA adapters of a folder belong to; None if the folder holds none.

    Raises:
        InvalidOption: their configuration names no model.
        CorruptData: it is no JSON.
    """
    path = Path(model).expanduser() / "adapter_config.json"
    if not path.is_file():
        return None
    base = read_json_object(path).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise _cannot(model, f"its adapter_config.json names the model {base!r}; wanted a folder, or a name on the hub")
    return base


def check_tokenizer(model: str, tokenizer: Any) -> None:
    """Check that a tokenizer has more than its special tokens.

    Raises:
        InvalidOption: it has not: its vocabulary is missing.
    """
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise _no_tokenizer(model)


def loading_error(model: str, device: str, error: Exception) -> InvalidOption:
    """Return the error that says why a model cannot be loaded.

    Args:
        model: as given.
        device: that it was to be on.
        error: what transformers, safetensors or torch raised.
    """
    text = " ".join(str(error).split())
    if "named model.safetensors" in text and "use_safetensors" in text:  # a name on the hub
        return _cannot(model, pickle_problem(["pytorch_model.bin"]))
    if "trust_remote_code" in text or "custom code" in text:
        return _cannot(
            model,
            "it brings code of its own, which is not run here (trust_remote_code): choose a model that transformers "
            "has itself, update transformers, or load it yourself and make TransformersPolicy(model, tokenizer)",
        )
    if "Unrecognized configuration class" in text:
        return _cannot(model, "it is no causal language model: choose one that generates text")
    if "does not recognize this architecture" in text:
        return _cannot(
            model, f"{text.partition('. This could be')[0]}: update it by pip install --upgrade transformers"
        )
    if type(error).__name__ == "SafetensorError":
        return _cannot(model, f"its weights are damaged ({text}): copy or download them again")
    if isinstance(error, ImportError):
        return _cannot(model, f"a package is missing ({text[:_LENGTH]})")
    if not Path(model).expanduser().is_dir() and isinstance(error, OSError):
        problem = f"it is no folder here, and the hub does not give it ({text[:_LENGTH]})"
        return _cannot(model, problem, _closest(Path(model)))
    return InvalidOption(
        f"the model {model!r} cannot be loaded on {device} ({type(error).__name__}: {text[:_LENGTH]})."
    )


def _closest(folder: Path) -> str:
    """Return a suggestion of one of the folders beside one that is missing."""
    parent = folder.absolute().parent
    if not parent.is_dir():
        return ""
    return did_you_mean(folder.name, [path.name for path in parent.iterdir() if path.is_dir()])


def _no_tokenizer(model: str) -> InvalidOption:
    return _cannot(
        model,
        "it has no tokenizer: copy tokenizer.json, tokenizer_config.json and chat_template.jinja of the model that it "
        "was made from into the folder, or write them by tokenizer.save_pretrained",
    )


def _cannot(model: str, problem: str, suggestion: str = "") -> InvalidOption:
    return InvalidOption(f"the model {model!r} cannot be loaded: {problem}.{suggestion}")
