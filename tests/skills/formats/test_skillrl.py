"""SkillRL's JSON: what is read, what comes back, what the report says. All data is invented here."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdar_envs import Task
from sdar_envs.errors import CorruptData, MissingData, UnknownName
from sdar_skills import Library, make_retriever, save_skill
from sdar_skills.formats import export_skillrl, import_skillrl
from sdar_skills.library.library import load_folder
from sdar_skills.library.task_types import TASK_TYPES

SKILLRL = {
    "general_skills": [
        {
            "skill_id": "gen_001",
            "title": "Look Around",
            "principle": "Look: then walk.",
            "when_to_apply": "At the start.",
        },
        {"skill_id": "gen_002", "title": "Count", "principle": "Count\nwhat you hold."},
    ],
    "task_specific_skills": {
        "heat": [
            {"skill_id": "hea_001", "title": "Warm It", "principle": "Use heat.", "when_to_apply": "If it is cold."}
        ],
        "pick_and_place": [
            {"skill_id": "pnp_001", "title": "Walk", "principle": "Walk there.", "when_to_apply": "With it in hand."},
            {"skill_id": "pnp_002", "title": "Open", "principle": "Open it.", "when_to_apply": "If it is closed."},
        ],
    },
    "common_mistakes": [
        {
            "mistake_id": "err_001",
            "description": "Walks in circles.",
            "why_it_happens": "It forgets.",
            "how_to_avoid": "Note.",
        },
        {"mistake_id": "err_002", "description": "Never stops."},
    ],
}


def write(path, content):
    path.write_text(json.dumps(content))
    return path


def lines(report, start):
    return [line for line in report if line.startswith(start)]


def test_skillrl_is_read(tmp_path):
    found = import_skillrl(write(tmp_path / "s.json", SKILLRL), "alfworld")
    assert [(skill.name, skill.task_type) for skill in found.skills] == [
        ("look-around", None),
        ("count", None),
        ("warm-it", "pick_heat_then_place_in_recep"),
        ("walk", "pick_and_place_simple"),
        ("open", "pick_and_place_simple"),
        ("avoid-walks-in-circles", None),
        ("avoid-never-stops", None),
    ]
    skill = found.skills[0]
    assert skill.text == "Look Around: Look: then walk.\n\nWhen to apply: At the start."
    assert skill.description == "At the start."
    assert skill.metadata == {"title": "Look Around", "legacy-id": "gen_001"}
    assert found.skills[2].metadata["legacy-task-type"] == "heat"
    assert found.skills[5].text == "Walks in circles.\n\nWhy it happens: It forgets.\n\nHow to avoid it: Note."
    assert found.report == (
        "translated: 'heat' is 'pick_heat_then_place_in_recep' here",
        "translated: 'pick_and_place' is 'pick_and_place_simple' here",
    )


def test_skillrl_comes_back_whole_also_through_files(tmp_path):
    found = import_skillrl(write(tmp_path / "s.json", SKILLRL), "alfworld")
    for skill in found.skills:
        save_skill(skill, tmp_path / "library")
    skills = {skill.name: skill for skill in load_folder(tmp_path / "library")}
    report = export_skillrl([skills[skill.name] for skill in found.skills], tmp_path / "back.json")
    assert json.loads((tmp_path / "back.json").read_text()) == SKILLRL
    assert all(line.startswith("dropped: origin of ") for line in report)


FIELD = (
    st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1, max_size=20).map(str.strip).filter(bool)
)
LESSON = st.fixed_dictionaries(
    {"skill_id": FIELD, "title": FIELD, "principle": FIELD}, optional={"when_to_apply": FIELD}
)
ERROR = st.fixed_dictionaries(
    {"mistake_id": FIELD, "description": FIELD}, optional={"why_it_happens": FIELD, "how_to_avoid": FIELD}
)


def _without_id(record):
    return {name: value for name, value in record.items() if not name.endswith("_id")}


@given(
    st.lists(LESSON, min_size=1, max_size=3),
    st.dictionaries(
        st.sampled_from(["compare", "comparison", "direct_retrieval"]), st.lists(LESSON, min_size=1, max_size=3)
    ),
    st.lists(ERROR, max_size=2),
)
def test_skillrl_round_trip(tmp_path_factory, general, by_type, mistakes):
    folder = tmp_path_factory.mktemp("skillrl")
    content = {"general_skills": general, "query_type_skills": by_type, "common_mistakes": mistakes}
    found = import_skillrl(write(folder / "in.json", content), "search_qa")
    export_skillrl(found.skills, folder / "out.json")
    back = json.loads((folder / "out.json").read_text())

    def bare(records):
        return sorted({json.dumps(_without_id(record), sort_keys=True) for record in records})

    groups = {"compare": [], "comparison": [], "direct_retrieval": []}
    for group in groups:
        assert set(bare(back["query_type_skills"].get(group, []))) <= set(bare(by_type.get(group, [])))
    # Nothing is lost: what is equal to another in task type and text is merged, and the report counts it.
    kept = (
        len(back["general_skills"]) + sum(map(len, back["query_type_skills"].values())) + len(back["common_mistakes"])
    )
    given_ = len(general) + sum(map(len, by_type.values())) + len(mistakes)
    merged = sum(int(line.split()[1]) for line in lines(found.report, "merged"))
    assert kept + merged == given_
    assert len({skill.name for skill in found.skills}) == len(found.skills) == kept
    assert len(Library(found.skills)) == kept
    if not merged:
        assert bare(back["general_skills"]) == bare(general)
        assert bare(back["common_mistakes"]) == bare(mistakes)


def test_skillrl_reads_both_keys_and_writes_the_suites_own(tmp_path):
    lessons = [{"skill_id": "a", "title": "T", "principle": "P", "when_to_apply": "W"}]
    for key in ("task_specific_skills", "query_type_skills"):
        found = import_skillrl(write(tmp_path / f"{key}.json", {key: {"comparison": lessons}}), "search_qa")
        assert [skill.task_type for skill in found.skills] == ["compare"]
        export_skillrl(found.skills, tmp_path / f"{key}-back.json")
        back = json.loads((tmp_path / f"{key}-back.json").read_text())
        assert back["query_type_skills"] == {"comparison": lessons}
        assert "task_specific_skills" not in back


def test_skillrl_reports_what_it_drops(tmp_path):
    content = {**SKILLRL, "metadata": {"source": "x"}}
    content["general_skills"] = [{**SKILLRL["general_skills"][0], "layer": 3}]
    report = import_skillrl(write(tmp_path / "s.json", content), "alfworld").report
    assert lines(report, "dropped") == [
        "dropped: the field 'metadata'",
        "dropped: the field 'layer' of general_skills, number 1",
    ]


def test_skillrl_merges_equal_skills_and_says_so(tmp_path):
    content = {"general_skills": [*SKILLRL["general_skills"], SKILLRL["general_skills"][0]]}
    found = import_skillrl(write(tmp_path / "s.json", content), "alfworld")
    assert [skill.name for skill in found.skills] == ["look-around", "count"]
    assert found.report == ("merged: 1 skills equal to others in task type and text",)


def test_a_kind_of_task_may_be_translated_by_hand(tmp_path):
    path = write(tmp_path / "s.json", {"task_specific_skills": {"warming": SKILLRL["general_skills"]}})
    with pytest.raises(UnknownName, match="'warming' is no task type of alfworld"):
        import_skillrl(path, "alfworld")
    found = import_skillrl(path, "alfworld", {"warming": "pick_heat_then_place_in_recep"})
    assert {skill.task_type for skill in found.skills} == {"pick_heat_then_place_in_recep"}
    assert {skill.task_type for skill in import_skillrl(path, "alfworld", {"warming": "general"}).skills} == {None}
    with pytest.raises(
        UnknownName, match=r"'warming' is to become 'pick_heat_then_place'.*Did you mean 'pick_heat_then"
    ):
        import_skillrl(path, "alfworld", {"warming": "pick_heat_then_place"})
    assert {skill.task_type for skill in import_skillrl(path, "kitchen").skills} == {"warming"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "is no JSON object"),
        ({}, "there are no skills"),
        ({"general_skills": {}}, "general_skills is no list of objects"),
        ({"general_skills": ["a"]}, "general_skills is no list of objects"),
        ({"task_specific_skills": []}, "task_specific_skills is no object"),
        ({"general_skills": [{"title": "a"}]}, "general_skills, number 1 has no principle"),
        ({"general_skills": [{"principle": "a"}]}, "general_skills, number 1 has no title"),
        (
            {"general_skills": [{"title": "a", "principle": 3}]},
            "principle of general_skills, number 1 is 3; wanted text",
        ),
        ({"common_mistakes": [{}]}, "common_mistakes, number 1 has no description"),
        (
            {"general_skills": [{"title": "a", "principle": "b\n\nWhen to apply: c", "when_to_apply": "d"}]},
            "would not read back",
        ),
    ],
)
def test_skillrl_refuses(content, message, tmp_path):
    with pytest.raises(CorruptData, match=message):
        import_skillrl(write(tmp_path / "s.json", content), "alfworld")


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(MissingData, match="there is no file"):
        import_skillrl(tmp_path / "none.json", "alfworld")
    (tmp_path / "s.json").write_text("{")
    with pytest.raises(CorruptData, match="is no JSON"):
        import_skillrl(tmp_path / "s.json", "alfworld")
    (tmp_path / "s.json").write_bytes(b"\xff")
    with pytest.raises(CorruptData, match="is not UTF-8"):
        import_skillrl(tmp_path / "s.json", "alfworld")


def test_an_import_alone_answers_every_type_or_says_which_it_does_not(tmp_path):
    lesson = {"skill_id": "gen_001", "title": "Read first", "principle": "Read.", "when_to_apply": "Always."}
    content = {"general_skills": [lesson], "task_specific_skills": {"apparel": [{**lesson, "title": "Sizes"}]}}
    path = tmp_path / "skills.json"
    path.write_text(json.dumps(content))
    library = Library(import_skillrl(path, "webshop").skills)
    told = library.uncovered_words("webshop")
    assert told == (
        "the webshop task types beauty, electronics, garden, grocery, shopping; tasks of these types get only the "
        "general skills (1)"
    )
    for kind in TASK_TYPES["webshop"]:
        task = Task("webshop/test/0", "sdar/WebShop-v0", "test", kind, "Buy it.")
        found = make_retriever("task_type", library).retrieve(task, 6, None, random.Random(0))
        assert [item.skill.name for item in found] == (["sizes", "read-first"] if kind == "fashion" else ["read-first"])
    content["general_skills"] = []
    path.write_text(json.dumps(content))
    bare = Library(import_skillrl(path, "webshop").skills)
    assert bare.uncovered_words("webshop").endswith("are refused: there are no general skills")
    with pytest.raises(UnknownName, match="for the task type 'garden'"):
        make_retriever("task_type", bare).retrieve(
            Task("webshop/test/0", "sdar/WebShop-v0", "test", "garden", "Buy it."), 6, None, random.Random(0)
        )
    assert Library.load().uncovered_words("webshop") == ""
