"""SDAR's skill folders: what is read, what comes back, what the report says. All data is invented here."""

from __future__ import annotations

import json

import pytest
from helpers.skill_toys import make_skill

from sdar_envs.errors import CorruptData, InvalidOption, MissingData, UnknownName
from sdar_skills import save_skill
from sdar_skills.formats import export_sdar, import_sdar
from sdar_skills.library.library import load_folder

MAPPING = {
    "skill_files": {"general_skills": "general_skills.md", "clean": "clean.md", "place": "sub/place.md"},
    "task_to_skill": {
        "pick_clean_then_place_in_recep": "clean",
        "pick_and_place_simple": "place",
        "pick_two_obj_and_place": "place",
    },
    "task_keywords": {"clean": ["clean", "wash up"]},
}
FILES = {
    "general_skills.md": "### GENERAL ###\n1. Look: look around.\n",
    "clean.md": "### TASK: clean ###\n1. Wash: use the sink.\n2. Dry: never.\n",
    "sub/place.md": "### TASK: place ###\n1. Walk: go there.\n",
}


def folder(path, mapping=MAPPING, files=FILES):
    for name, text in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    (path / "skill_mapping.json").write_text(json.dumps(mapping))
    return path


def test_sdar_is_read(tmp_path):
    found = import_sdar(folder(tmp_path), "alfworld")
    assert [(skill.name, skill.task_type) for skill in found.skills] == [
        ("general-skills", None),
        ("clean", "pick_clean_then_place_in_recep"),
        ("place-pick-and-place-simple", "pick_and_place_simple"),
        ("place-pick-two-obj-and-place", "pick_two_obj_and_place"),
    ]
    assert [skill.text for skill in found.skills[:2]] == [FILES["general_skills.md"].strip(), FILES["clean.md"].strip()]
    assert found.skills[1].metadata["keywords"] == "clean, wash up"
    assert found.report == (
        "copied: sub/place.md serves pick_and_place_simple, pick_two_obj_and_place, one skill for each",
    )


def test_sdar_comes_back_whole_also_through_files(tmp_path):
    found = import_sdar(folder(tmp_path / "in"), "alfworld")
    for skill in found.skills:
        save_skill(skill, tmp_path / "library")
    skills = {skill.name: skill for skill in load_folder(tmp_path / "library")}
    export_sdar([skills[skill.name] for skill in found.skills], tmp_path / "out")
    assert json.loads((tmp_path / "out" / "skill_mapping.json").read_text()) == MAPPING
    assert {name: (tmp_path / "out" / name).read_text() for name in FILES} == FILES


def test_sdar_reports_files_that_the_mapping_forgets_and_fields_that_it_has_beyond(tmp_path):
    mapping = {**MAPPING, "version": 2, "task_keywords": {"heat": ["hot"]}}
    path = folder(tmp_path, mapping, {**FILES, "compare.md": "Lost."})
    assert [line for line in import_sdar(path, "alfworld").report if line.startswith("dropped")] == [
        "dropped: the field 'version' of skill_mapping.json",
        "dropped: the keywords of 'heat', which skill_files does not have",
        "dropped: compare.md, which the mapping does not name",
    ]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"skill_files": None}, CorruptData, "skill_files is no object of texts"),
        ({"task_to_skill": {"pick_clean_then_place_in_recep": "cleam"}}, CorruptData, "Did you mean 'clean'"),
        ({"skill_files": {"clean": "gone.md"}, "task_to_skill": {}}, MissingData, "there is no file .*gone.md"),
        ({"skill_files": {"clean": "../clean.md"}, "task_to_skill": {}}, CorruptData, "not inside the folder"),
        ({"task_to_skill": {"wash": "clean"}}, UnknownName, "'wash' is no task type"),
        ({"task_keywords": {"clean": "clean"}}, CorruptData, "is no list of words"),
        ({"task_keywords": {"clean": ["a,b"]}}, CorruptData, "has a word with a comma"),
        ({"task_keywords": []}, CorruptData, "task_keywords is no object"),
    ],
)
def test_sdar_refuses(change, error, message, tmp_path):
    with pytest.raises(error, match=message):
        import_sdar(folder(tmp_path, {**MAPPING, **change}), "alfworld")


def test_sdar_needs_its_fields(tmp_path):
    with pytest.raises(CorruptData, match="the field 'task_to_skill' is missing"):
        import_sdar(folder(tmp_path, {"skill_files": {}}), "alfworld")
    with pytest.raises(CorruptData, match=r"clean\.md is empty"):
        import_sdar(folder(tmp_path, files={**FILES, "clean.md": " \n"}), "alfworld")


def test_sdar_has_room_for_one_file_per_kind(tmp_path):
    old = make_skill("a", "lift", metadata={"legacy-id": "lift", "legacy-file": "lift.md"})
    with pytest.raises(InvalidOption, match="one file for each task type"):
        export_sdar([old, make_skill("b", "lift")], tmp_path / "x")
    clash = make_skill("b", "push", text="Other.", metadata={"legacy-id": "push", "legacy-file": "lift.md"})
    with pytest.raises(InvalidOption, match=r"two texts want the file 'lift\.md'"):
        export_sdar([old, clash], tmp_path / "x")
    assert not (tmp_path / "x").exists()
