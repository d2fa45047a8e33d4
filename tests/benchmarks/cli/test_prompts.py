"""`sdar prompts`: what it prints, writes and refuses."""

import json

import pytest

from sdar_benchmarks.cli.main import main
from sdar_envs import ChatEpisode, resolve_style
from sdar_envs.prompt import PromptTemplates

TEMPLATES = "ALFWORLD_TEMPLATE_NO_HIS = 'See {current_observation}'\nALFWORLD_TEMPLATE = 'Then {action_history}'\n"


@pytest.fixture
def run(capsys):
    def run(*arguments):
        status = main(["prompts", *map(str, arguments)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def test_a_tasks_prompt_is_that_of_an_episode(run):
    status, out, err = run("show", "alfworld", "alfworld/valid_seen/0003", "--turn", 2)
    assert (status, err) == (0, "")
    episode = ChatEpisode("sdar/ALFWorld-v0")
    first = episode.reset(task_id="alfworld/valid_seen/0003")
    assert run("show", "alfworld", "alfworld/valid_seen/0003")[1] == f"--- user\n{first.messages[0]['content']}\n"
    assert "Turn 1, observation: -= Welcome" in out


def test_a_made_up_turn(run):
    _, out, _ = run("show", "search_qa", "--turn", 3, "--history", "appended")
    assert [line for line in out.splitlines() if line.startswith("---")] == [
        "--- user",
        "--- assistant",
        "--- user",
        "--- assistant",
        "--- user",
    ]
    assert out.count("First reason step by step") == 1
    _, out, _ = run("show", "webshop", "--action-format", "tools")
    assert [tool["function"]["name"] for tool in json.loads(out.partition("--- tools\n")[2])] == ["search", "click"]


def test_an_imported_style_is_shown_and_played(run, tmp_path):
    (tmp_path / "alfworld.py").write_text(TEMPLATES)
    target = tmp_path / "style.yaml"
    status, out, err = run("import", tmp_path / "alfworld.py", "--from", "verl-agent", "--out", target)
    assert (status, out, err) == (0, f"wrote {target}: the style of alfworld, from alfworld.py\n", "")
    assert isinstance(resolve_style(str(target)).templates, PromptTemplates)
    assert run("show", target)[1] == "--- user\nSee (observation 1)\n"
    assert run("show", target, "--turn", 2)[1] == (
        "--- user\nThen [Observation 1: '(observation 1)', Action 1: '(action 1)']\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "alfword"], "Did you mean 'alfworld'"),
        (["show", "alfworld", "alfworld/valid_seen/9999"], "no task 'alfworld/valid_seen/9999'"),
        (["show", "default", "toy/x"], "name one with --env"),
        (["show", "default", "--turn", "0"], "wanted a number from 1"),
        (["show", "default", "--env", "sdar/ALFWorld-v0"], "are for a task"),
        (["show", "search_qa", "search_qa/test/0001", "--turn", "9"], "is over after"),
        (["show", "default", "--history", "appended", "--history-length", "2"], "shows all turns"),
        (["import", "nowhere", "--from", "sdar", "--out", "x.yaml"], "there is no nowhere"),
        (["import", "nowhere", "--from", "sdar", "--out", "x.txt"], "ends in .yaml"),
    ],
)
def test_mistakes_are_told_in_one_line(run, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_no_file_is_overwritten(run, tmp_path):
    (tmp_path / "alfworld.py").write_text(TEMPLATES)
    (tmp_path / "mine.yaml").write_text("role: Mine.\n")
    status, _, err = run("import", tmp_path / "alfworld.py", "--from", "sdar", "--out", tmp_path / "mine.yaml")
    assert (status, "exists" in err, (tmp_path / "mine.yaml").read_text()) == (2, True, "role: Mine.\n")
