"""`sdar skills`: what it prints, writes and refuses."""

from __future__ import annotations

import json
import re

import pytest
from helpers.skill_toys import make_skill

from sdar_benchmarks.cli.main import main
from sdar_skills import Ledger, Library, retriever_names, save_skill
from sdar_skills.evidence.ledger import Showing
from sdar_skills.library.skill import arm_of
from sdar_skills.library.skill_file import parse_skill


@pytest.fixture
def run(capsys):
    def run(*arguments):
        status = main(["skills", *map(str, arguments)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def test_list(run, tmp_path):
    status, out, err = run("list")
    assert (status, err) == (0, "")
    assert len(out.splitlines()) == 1 + len(Library.load())
    assert re.search(r"^alfworld/carry-one-thing +general +1\.0\.0 +active +\d+$", out, flags=re.MULTILINE)
    save_skill(make_skill("mine", status="retired"), tmp_path)
    assert "toy/mine" in run("list", "--library", tmp_path)[1]
    assert run("list", "--library", tmp_path, "--no-builtin", "--suite", "toy")[1].splitlines()[1:] == [
        "toy/mine  general    1.0.0    retired      2"
    ]
    assert run("list", "--suite", "webshpo")[::2] == (
        2,
        "error: no skills for the suite 'webshpo'; there are some for alfworld, search_qa, webshop. Did you mean "
        "'webshop'?\n",
    )


def test_show_prints_the_file(run):
    _, out, _ = run("show", "webshop/buy-electronics")
    assert parse_skill(out, "buy-electronics/SKILL.md") == Library.load()["webshop/buy-electronics"]
    status, _, err = run("show", "webshop/buy-electronic")
    assert (status, "Did you mean 'webshop/buy-electronics'" in err) == (2, True)


def test_search(run):
    _, out, _ = run("search", "desklamp", "examine", "-k", "1")
    assert out.splitlines()[1].startswith("alfworld/look-under-the-desklamp ")
    assert "alfworld/" not in run("search", "desklamp lamp", "--suite", "webshop")[1]


def test_check_without_gaps(run):
    status, out, err = run("check", "--suite", "alfworld", "--limit", 2)
    assert (status, err) == (0, "")
    assert out.startswith("alfworld/valid_unseen/0000  pick_two_obj_and_place  find two ")
    first, second = out.partition("2 tasks of")[0].split("alfworld/valid_unseen/")[1:]
    for block in (first, second):
        # Every strategy, and whole names that can be looked for.
        strategies = re.findall(r"^  (\w+) +[\w-]+", block, flags=re.MULTILINE)
        assert strategies == [name for name in retriever_names() if name not in ("embedding", "home")]
        assert set(re.findall(r"[\w-]+-[\w-]+", block)) <= {skill.name for skill in Library.load()}
    assert "\n  keyword    place-two-things, carry-one-thing," in out
    assert max(map(len, out.splitlines()[:6])) <= 100
    assert re.search(r"^task_type +2 \(100\.0%\) +0 *$", out, flags=re.MULTILINE)
    assert out.endswith("\nno gaps\n")
    assert run("check", "--suite", "alfworld", "--limit", 2, "--summary")[1].startswith("2 tasks of sdar/ALFWorld-v0")


def test_check_with_gaps_says_which_and_has_a_status_of_its_own(run, tmp_path):
    save_skill(make_skill("walk", "pick_two_obj_and_place", suite="alfworld"), tmp_path)
    arguments = ("check", "--suite", "alfworld", "--library", tmp_path, "--no-builtin", "--limit", 30)
    status, out, _ = run(*arguments, "--strategy", "task_type")
    assert status == 1
    assert "  task_type  refused: no skill for this type" in out
    assert "types without a skill: pick_and_place_simple, look_at_obj_in_light, pick_heat" in out
    assert "skills that no task reaches: none" in out
    assert out.endswith("\ngaps\n")
    status, out, _ = run(*arguments, "--strategy", "keyword")
    assert status == 1
    assert "skills that no task reaches: alfworld/walk" in out


def test_check_asks_the_ledger(run, tmp_path):
    library = Library.load()
    skill, task_type = library["alfworld/place-two-things"], "pick_two_obj_and_place"
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        for other in library.select("alfworld"):
            reward = float(other == skill)
            ledger.append([Showing(arm_of(other), "alfworld", task_type, "t", "r", 0, "ucb", reward, 0.0)] * 20)
    arguments = ("check", "--suite", "alfworld", "--limit", 1, "-k", 1, "--strategy", "ucb", "--strategy", "hybrid")
    _, out, _ = run(*arguments, "--ledger", tmp_path / "ledger.sqlite")
    assert "\n  ucb        place-two-things\n  hybrid     place-two-things\n" in out
    assert "there is no ledger" in run(*arguments, "--ledger", tmp_path / "none")[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("check", "--suite", "alfwold"), "Did you mean 'alfworld'"),
        (("check", "--suite", "alfworld", "--strategy", "ucbb"), "no strategy 'ucbb'"),
        (("check", "--suite", "alfworld", "--strategy", "embedding"), "name one by --encoder"),
        (("check", "--suite", "alfworld", "--split", "train"), "without end"),
        (("check", "--suite", "alfworld", "--library", "/nowhere"), "there is no folder"),
    ],
)
def test_refusals(run, arguments, message):
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert message in err


def test_import_and_export(run, tmp_path):
    lessons = [
        {"skill_id": "com_001", "title": "Look both up", "principle": "One search each.", "when_to_apply": "Now."}
    ]
    source = tmp_path / "skills.json"
    source.write_text(
        json.dumps({"general_skills": [], "query_type_skills": {"comparison": lessons}, "common_mistakes": []})
    )
    library = tmp_path / "library"
    status, out, err = run("import", source, "--format", "skillrl", "--suite", "search_qa", "--output", library)
    assert (status, err) == (
        0,
        "translated: 'comparison' is 'compare' here\nnot covered: the search_qa task types direct_retrieval, "
        "entity_attribute_lookup, multi_hop_reasoning; tasks of these types are refused: there are no general skills\n",
    )
    assert out == f"{library / 'search_qa' / 'look-both-up' / 'SKILL.md'}\n"
    back = tmp_path / "back.json"
    options = ("--suite", "search_qa", "--library", library, "--no-builtin")
    status, out, err = run("export", back, "--format", "skillrl", *options)
    assert (status, out) == (0, f"wrote 1 skills to {back}\n")
    assert err == "dropped: origin of search_qa/look-both-up\n"
    assert json.loads(back.read_text()) == json.loads(source.read_text())
    assert run("export", tmp_path / "folder", "--format", "sdar", *options)[0] == 0
    assert (tmp_path / "folder" / "skill_mapping.json").exists()
    save_skill(make_skill("old", "compare", suite="search_qa", status="retired"), library)
    _, out, err = run("export", tmp_path / "again.json", "--format", "skillrl", *options)
    assert out.startswith("wrote 1 skills")
    assert err.endswith("\nleft out: search_qa/old, which is retired\n")


def test_import_translates_kinds_of_task(run, tmp_path):
    source = tmp_path / "skills.json"
    source.write_text(json.dumps({"task_specific_skills": {"warming": [{"title": "Warm", "principle": "It."}]}}))
    arguments = ("import", source, "--format", "skillrl", "--suite", "alfworld", "--output", tmp_path / "library")
    assert run(*arguments)[0] == 2
    assert run(*arguments, "--task-type", "warming=pick_heat_then_place_in_recep")[0] == 0
    with pytest.raises(SystemExit):
        run(*arguments, "--task-type", "warming")
