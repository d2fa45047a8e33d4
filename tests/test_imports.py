"""Importing is cheap, registering works without an import, and every `__all__` is true."""

from __future__ import annotations

import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from sdar_envs.errors import MissingExtra

PACKAGES = ("sdar_envs", "sdar_skills", "sdar_agents", "sdar_benchmarks")
HEAVY = (
    "alfworld",
    "bm25s",
    "bs4",
    "faiss",
    "httpx2",
    "jinja2",
    "matplotlib",
    "prompt_toolkit",
    "pydantic",
    "rapidfuzz",
    "requests",
    "rich",
    "sentence_transformers",
    "spacy",
    "starlette",
    "tantivy",
    "textworld",
    "torch",
    "transformers",
    "uvicorn",
    "yaml",
)
SECONDS = 0.5


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def modules() -> list[str]:
    names = list(PACKAGES)
    for package in PACKAGES:
        path = importlib.import_module(package).__path__
        names += [module.name for module in pkgutil.walk_packages(path, f"{package}.")]
    return sorted(names)


def name_order(name: str) -> tuple[int, str]:
    """CONSTANTS, then Classes, then functions: the order that ruff keeps."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def test_import_loads_nothing_heavy() -> None:
    loaded = run_python("import sys, sdar_envs; print(*{name.partition('.')[0] for name in sys.modules})").split()
    assert "gymnasium" in loaded
    assert not set(HEAVY) & set(loaded)


def test_the_parsers_of_all_verbs_load_nothing_heavy() -> None:
    code = (
        "import sys; from sdar_benchmarks.cli.main import make_parser; make_parser(); "
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    assert not {*HEAVY, "gymnasium", "numpy", "sdar_envs"} & set(run_python(code).split())


def test_evaluation_loads_no_model_and_no_client() -> None:
    code = "import sys, sdar_benchmarks.evaluation.evaluate; print(*{name.partition('.')[0] for name in sys.modules})"
    assert not {"httpx2", "scipy", "torch", "transformers"} & set(run_python(code).split())


def test_agents_load_no_torch_until_they_train() -> None:
    code = "import sys, sdar_agents, sdar_agents.engines; print(*{name.partition('.')[0] for name in sys.modules})"
    assert not {"httpx2", "requests", "torch", "transformers"} & set(run_python(code).split())


def test_names_of_the_trainer_are_imported_when_they_are_used() -> None:
    code = "import sys, sdar_agents; a = 'torch' in sys.modules; sdar_agents.Trainer; print(a, 'torch' in sys.modules)"
    assert run_python(code) == "False True"
    with pytest.raises(AttributeError, match="module 'sdar_agents' has no attribute 'Trainr'"):
        _ = importlib.import_module("sdar_agents").Trainr


def test_without_torch_names_of_the_trainer_say_which_extra_is_missing() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; import sdar_agents, sdar_envs.errors\n"
        "try: sdar_agents.Trainer\n"
        "except sdar_envs.errors.MissingExtra as error: print(error)"
    )
    wanted = "sdar_agents.Trainer needs torch, which is not installed: pip install 'sdar-envs[train]'"
    assert run_python(code) == wanted


def test_import_is_fast() -> None:
    code = "import time; start = time.process_time(); import sdar_envs; print(time.process_time() - start)"
    assert min(float(run_python(code)) for _ in range(3)) < SECONDS


def test_gymnasium_imports_the_package_itself() -> None:
    code = "import gymnasium; print(gymnasium.make('sdar_envs:sdar/ALFWorld-v0').reset(seed=0)[1]['task_type'])"
    assert "_" in run_python(code)


@pytest.mark.parametrize("name", modules())
def test_all_is_sorted_and_true(name: str) -> None:
    missing = ""
    try:
        module: ModuleType = importlib.import_module(name)
    except MissingExtra as error:
        missing = str(error)
    if missing:  # an adapter, without the package that it is for
        assert ".integrations." in name
        assert re.search(r"pip install 'sdar-envs\[([\w-]+)\]'$", missing)[1] in extras()
        return
    exported = getattr(module, "__all__", [])
    assert exported == sorted(set(exported), key=name_order)
    assert [entry for entry in exported if not hasattr(module, entry)] == []


def extras() -> set[str]:
    with open(Path(__file__).parents[1] / "pyproject.toml", "rb") as file:
        return set(tomllib.load(file)["project"]["optional-dependencies"])
