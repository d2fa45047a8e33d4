"""Objects by name: one that a file names is told of before its module runs, one that was typed is not."""

import sys

import pytest

from sdar_envs.importing import import_named, names_from
from sdar_envs.prompt import resolve_style
from sdar_envs.registry import make_text_env

MODULE = """
import sys
import gymnasium
from sdar_envs.alfworld.env import ALFWorldEnv
print("own code runs", file=sys.stderr)
gymnasium.register("told/Home-v0", entry_point=ALFWorldEnv)
def parse(text):
    return text
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "told_module.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield "told_module"
    sys.modules.pop("told_module", None)
    sys.modules["gymnasium"].registry.pop("told/Home-v0", None)


def test_what_a_file_names_is_told_of_once_before_its_code_runs(module, capsys, tmp_path):
    file = tmp_path / "run.yaml"
    names_from({"a": [{"reward": f"{module}:parse"}, "cuda:0", 5, None], "b": {"c": ("http://x:80",)}}, file)
    import_named(f"{module}:parse", what="a reward function")
    import_named(f"{module}:parse", what="a reward function")
    told = f"importing a reward function, 'told_module:parse', which {str(file)!r} names: its code runs here\n"
    assert capsys.readouterr().err == f"{told}own code runs\n"
    names_from({"reward": f"{module}:parse"}, file)
    import_named(f"{module}:parse", what="a reward function")
    assert capsys.readouterr().err == ""
    names_from({"reward": f"{module}:parse"}, "another.yaml")
    import_named(f"{module}:parse", what="a reward function")
    assert "which 'another.yaml' names" in capsys.readouterr().err


def test_what_was_typed_is_not_told_of(module, capsys):
    import_named(f"{module}:sys", what="an agent")
    assert capsys.readouterr().err == "own code runs\n"


def test_an_environment_that_a_file_names_is_told_of(module, capsys, tmp_path):
    env_id = f"{module}:told/Home-v0"
    names_from({"rollout": {"env_id": env_id}}, tmp_path / "run.yaml")
    make_text_env(env_id)
    told = capsys.readouterr().err
    assert told.startswith(f"importing an environment, {env_id!r}, which ")
    assert told.endswith("own code runs\n")


def test_the_parse_function_of_a_style_file_is_told_of(module, capsys, tmp_path):
    style = tmp_path / "style.yaml"
    style.write_text(f"role: Play.\naction_tags: [action]\nparse: {module}:parse\n")
    assert callable(resolve_style(str(style)).parse)
    assert f"importing a parse function, '{module}:parse', which {str(style)!r} names" in capsys.readouterr().err


def test_the_notice_holds_no_control_sequences(capsys):
    names_from(["evil\x1b[2J:x"], "\x1b]0;title\x07.yaml")
    with pytest.raises(LookupError):
        import_named("evil\x1b[2J:x", what="a method")
    told = capsys.readouterr().err
    assert "importing a method" in told
    assert "\x1b" not in told


def test_what_a_file_names_of_these_packages_is_not_told(tmp_path, capsys):
    name = "sdar_envs.search_qa.search_r1:STYLE"
    names_from({"base": name}, tmp_path / "style.yaml")
    assert import_named(name, what="a prompt style") is not None
    assert capsys.readouterr().err == ""
