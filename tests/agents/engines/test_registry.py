"""Engines by name: the built-in one, classes of one's own, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny_models import tiny_policy

from sdar_agents import Request, Sampling, TransformersPolicy, make_engine
from sdar_envs.errors import InvalidOption, UnknownName

CLASSES = """
class Echo:
    context_length = None
    def __init__(self, model, tokenizer, *, loud=False):
        self.model, self.loud = model, loud
    def render(self, messages): ...
    def encode(self, text): ...
    def generate(self, requests, sampling): ...

class Mute:
    def __init__(self, model, tokenizer): ...
    def render(self, messages): ...

def function(): ...
"""


@pytest.fixture(autouse=True)
def _own_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "own_engines.py").write_text(CLASSES)
    monkeypatch.delitem(sys.modules, "own_engines", raising=False)


def test_the_built_in_engine_gets_its_settings() -> None:
    policy = tiny_policy()
    engine = make_engine("transformers", policy.model, policy.tokenizer, {"max_batch_tokens": 500})
    assert isinstance(engine, TransformersPolicy)
    assert engine.max_batch_tokens == 500
    [completion] = engine.generate([Request((1, 2), 0)], Sampling(3))
    assert completion.token_ids


def test_an_engine_of_ones_own_gets_the_model_that_is_trained() -> None:
    model = object()
    engine: Any = make_engine("own_engines:Echo", model, None, {"loud": True})
    assert (engine.model is model, engine.loud) == (True, True)


@pytest.mark.parametrize(
    ("error", "name", "settings", "match"),
    [
        (UnknownName, "transformer", {}, r"no engine 'transformer'; .*module:Class .*Did you mean 'transformers'\?"),
        (UnknownName, "own_engines:Eco", {}, r"own_engines has no 'Eco'; wanted an engine .*Did you mean 'Echo'\?"),
        (UnknownName, "own_engines:function", {}, "is a function; wanted a class"),
        (UnknownName, "own_engines:Mute", {}, "is no engine, it lacks context_length, encode, generate; wanted"),
        (InvalidOption, "own_engines:Echo", {"size": 1}, "cannot be made with .* settings size: .*'size'"),
    ],
)
def test_refusals(error: type[Exception], name: str, settings: dict[str, Any], match: str) -> None:
    with pytest.raises(error, match=match):
        make_engine(name, object(), object(), settings)
