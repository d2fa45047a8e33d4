"""SKILL.md files and the library: parsing, error positions, round trips, lookups."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from helpers.skill_toys import make_skill, make_task
from hypothesis import given
from hypothesis import strategies as st

from sdar_envs import Task
from sdar_envs.errors import CorruptData, InvalidOption, MissingData, UnknownName
from sdar_envs.search_qa.questions import UNCLASSIFIED
from sdar_skills import Library, Skill, make_retriever, save_skill
from sdar_skills.library.library import builtin_skills, load_folder
from sdar_skills.library.skill_file import format_skill, parse_skill
from sdar_skills.library.task_types import TASK_TYPES

FILE = """---
name: heat-it
description: How to heat.
license: MIT
metadata:
  suite: alfworld
  task-type: pick_heat_then_place_in_recep
  version: "1.2.3"
  status: shadow
  origin: run 7
  created-by: a test
  keywords: hot, warm
---

# Heat

Use the microwave.
"""
PATH = "skills/alfworld/heat-it/SKILL.md"


def test_a_file_is_read():
    assert parse_skill(FILE, PATH) == Skill(
        name="heat-it",
        suite="alfworld",
        task_type="pick_heat_then_place_in_recep",
        description="How to heat.",
        text="# Heat\n\nUse the microwave.",
        version="1.2.3",
        status="shadow",
        origin="run 7",
        created_by="a test",
        metadata={"license": "MIT", "keywords": "hot, warm"},
    )


def test_what_may_be_left_out():
    skill = parse_skill("---\nname: a\ndescription: b\nmetadata: {suite: s, task-type: general}\n---\nc", "a/SKILL.md")
    assert skill == Skill(name="a", suite="s", task_type=None, description="b", text="c")
    assert (skill.version, skill.status) == ("1.0.0", "active")


def test_windows_line_ends_and_byte_order_mark_are_read():
    assert parse_skill("\ufeff" + FILE.replace("\n", "\r\n"), PATH) == parse_skill(FILE, PATH)


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("---\nname", "name", 1, "no front matter"),
        ("warm\n---\n", "warm\n", 1, "no front matter"),
        ("license: MIT", "licence: MIT", 4, "'licence' is unknown.* Did you mean 'license'"),
        ("license: MIT", "version: '1.0.0'", 4, "'version' is unknown.*It belongs under metadata"),
        ("license: MIT", "name: heat-it", 4, "'name' occurs twice"),
        ("  origin: run 7", "  suite: webshop", 10, "'suite' occurs twice"),
        ("  origin: run 7", "  license: MIT", 10, "'license' is under metadata"),
        ("  origin: run 7", "  origin: [1, 2]", 10, "'origin' is no plain text"),
        ('"1.2.3"', "1.2", 8, "'1.2', which YAML takes for float; wanted text: write it in quotes"),
        ("status: shadow", "status: off", 9, "'off', which YAML takes for bool"),
        ("origin: run 7", "origin: 2026-01-31", 10, "which YAML takes for timestamp"),
        ("origin: run 7", "origin:", 10, "which YAML takes for null"),
        ("  origin: run 7", "  7: x", 10, "a field's name is '7', which YAML takes for int"),
        ("origin: run 7", "origin: run: 7", 10, "the front matter is no YAML"),
        ("origin: run 7", "origin: *x", 10, "the front matter is no YAML"),
        ("name: heat-it\n", "", 1, "'name' is missing"),
        ("description: How to heat.\n", "", 1, "'description' is missing"),
        ("  suite: alfworld\n", "", 5, "'suite' of metadata is missing"),
        ("How to heat.", "' '", 3, "description is ' '; wanted a sentence"),
        ("How to heat.", "x" * 1025, 3, "wanted at most 1024 characters, not 1025"),
        ("name: heat-it", "name: Heat-it", 2, "wanted lower-case letters"),
        ("name: heat-it", "name: heat--it", 2, "wanted lower-case letters"),
        ("name: heat-it", "name: heat", 2, "wanted the name of the folder, 'heat-it'"),
        ("name: heat-it", f"name: {'a' * 65}", 2, "wanted at most 64 characters"),
        ("suite: alfworld", "suite: Alf World", 6, "wanted letters and digits"),
        ("pick_heat_then", "pick_and_heat_then", 7, "Did you mean 'pick_heat_then_place_in_recep'"),
        ("pick_heat_then_place_in_recep", "genral", 7, "Did you mean 'general'"),
        ("1.2.3", "1.2", 8, "version is '1.2'; wanted three numbers"),
        ("1.2.3", "1.02.3", 8, "version is '1.02.3'; wanted three numbers"),
        ("1.2.3", "v1.2.3", 8, "wanted three numbers"),
        ("shadow", "shadowed", 9, "wanted one of active, shadow, retired. Did you mean 'shadow'"),
        ("\n# Heat\n\nUse the microwave.\n", "\n \n", 14, "the body is empty"),
    ],
)
def test_what_is_refused_names_file_and_line(old, new, line, message):
    assert FILE.count(old)
    with pytest.raises(CorruptData, match=message) as caught:
        parse_skill(FILE.replace(old, new, 1), PATH)
    assert str(caught.value).startswith(f"{PATH}, line {line}: ")


def test_front_matter_must_be_a_mapping():
    with pytest.raises(CorruptData, match="line 2: the front matter is no mapping"):
        parse_skill("---\n- a\n---\nb", PATH)
    with pytest.raises(CorruptData, match="line 4: metadata is no mapping"):
        parse_skill("---\nname: a\ndescription: b\nmetadata: c\n---\nb", PATH)


def test_another_suite_may_name_its_types():
    assert parse_skill(format_skill(make_skill("a", "any type at all")), "a/SKILL.md").task_type == "any type at all"


NAMES = st.from_regex(r"[a-z0-9]{1,6}(-[a-z0-9]{1,6}){0,3}", fullmatch=True)
TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60)


# What YAML would fold is refused, see below.
FIELDS = st.text(st.characters(codec="utf-8", exclude_characters="\x85\u2028\u2029"), min_size=1, max_size=40)
FURTHER = st.dictionaries(NAMES.filter(lambda name: name not in {"suite", "version", "status", "origin"}), FIELDS)


@given(NAMES, FIELDS, TEXTS, st.none() | FIELDS, FURTHER)
def test_a_file_reads_back_or_is_refused(name, description, text, task_type, metadata):
    skill = make_skill(name, task_type, text, description=description, metadata=metadata, origin=description)
    sayable = (
        text == text.strip()
        and "\r\n" not in text
        and description.strip()
        and (task_type is None or task_type.strip())
        and task_type != "general"
        and not {"name", "description"} & set(metadata)
    )
    if not sayable:
        with pytest.raises(InvalidOption):
            format_skill(skill)
        return
    read = parse_skill(format_skill(skill), f"{name}/SKILL.md")
    assert read == skill
    assert read.sha256 == skill.sha256


@pytest.mark.parametrize(
    "skill",
    [
        make_skill("Bad"),
        make_skill("a", text=" blank"),
        make_skill("a", text="a\r\nb"),
        make_skill("a", text="\ud800"),
        make_skill("a", "general"),
        make_skill("a", metadata={"version": "2.0.0"}),
        make_skill("a", metadata={"name": "b"}),
        make_skill("a", metadata={"note": "line\x85break"}),
        make_skill("a", version="1"),
    ],
)
def test_a_skill_that_no_file_can_say_is_refused(skill, tmp_path):
    with pytest.raises(InvalidOption, match=r"cannot be written|would read back"):
        save_skill(skill, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_saved_skill_is_loaded(tmp_path):
    skill = make_skill("a", "lift", "Text.\n\n- more", metadata={"license": "MIT", "keywords": "x"}, status="retired")
    path = save_skill(skill, tmp_path)
    assert path == tmp_path / "toy" / "a" / "SKILL.md"
    assert load_folder(tmp_path) == (skill,)
    assert [p.name for p in path.parent.iterdir()] == ["SKILL.md"]


def test_another_text_needs_another_version(tmp_path):
    save_skill(make_skill("a"), tmp_path)
    assert save_skill(make_skill("a"), tmp_path).exists()
    changed = make_skill("a", text="Otherwise.")
    with pytest.raises(InvalidOption, match="exists with another content"):
        save_skill(changed, tmp_path)
    with pytest.raises(InvalidOption, match=r"same version 1\.0\.0"):
        save_skill(changed, tmp_path, overwrite=True)
    newer = make_skill("a", text="Otherwise.", version="1.0.1")
    save_skill(newer, tmp_path, overwrite=True)
    assert load_folder(tmp_path) == (newer,)
    retired = make_skill("a", text="Otherwise.", version="1.0.1", status="retired")
    save_skill(retired, tmp_path, overwrite=True)
    assert load_folder(tmp_path) == (retired,)


def test_a_file_that_nobody_would_read_is_an_error(tmp_path):
    save_skill(make_skill("a"), tmp_path)
    (tmp_path / "README.md").write_text("Read me.")
    (tmp_path / "toy" / "a" / "example.md").write_text("An example.")
    assert len(load_folder(tmp_path)) == 1
    for name in ("compare.md", "skill.md"):
        stray = tmp_path / "toy" / name
        stray.write_text("Forgotten.")
        with pytest.raises(CorruptData, match=f"{name}: this file belongs to no skill"):
            load_folder(tmp_path)
        stray.unlink()


def test_missing_and_broken_folders(tmp_path):
    with pytest.raises(MissingData, match="there is no folder"):
        load_folder(tmp_path / "nowhere")
    with pytest.raises(MissingData, match="there is no skill"):
        load_folder(tmp_path)
    path = save_skill(make_skill("a"), tmp_path)
    path.write_bytes(b"\xff")
    with pytest.raises(CorruptData, match="not UTF-8"):
        load_folder(tmp_path)


def test_ids_are_unique(tmp_path):
    save_skill(make_skill("a"), tmp_path / "one")
    save_skill(make_skill("a", text="Other."), tmp_path / "two")
    with pytest.raises(CorruptData, match="two skills have the id 'toy/a'"):
        Library.load(tmp_path / "one", tmp_path / "two", builtin=False)
    assert len(Library([make_skill("a"), make_skill("a", suite="other")])) == 2


def test_a_library_finds_skills():
    library = Library([make_skill("b", "lift"), make_skill("a"), make_skill("c", "push", status="shadow")])
    assert [skill.id for skill in library] == ["toy/a", "toy/b", "toy/c"]
    assert library["toy/b"].task_type == "lift"
    assert library.suites == ("toy",)
    assert [skill.name for skill in library.select("toy")] == ["a", "b"]
    assert [skill.name for skill in library.select("toy", {"shadow"})] == ["c"]
    with pytest.raises(UnknownName, match=r"no skill 'toy/bb'.*Did you mean 'toy/b'"):
        library["toy/bb"]
    with pytest.raises(UnknownName, match=r"no skills for the suite 'toyy'.*Did you mean 'toy'"):
        library.select("toyy", strict=True)
    assert [skill.name for skill in library.candidates(make_task("lift"))] == ["a", "b"]
    # A type without skills of its own gets the general ones; without any, it is an error, as is a misspelt one.
    assert [skill.name for skill in library.candidates(make_task("push"))] == ["a", "b"]
    own = Library([make_skill("b", "lift"), make_skill("c", "push", status="shadow")])
    with pytest.raises(UnknownName, match=r"no toy skill \(active\) for the task type 'push'; there are some for lift"):
        own.candidates(make_task("push"))
    with pytest.raises(UnknownName, match="Did you mean 'lift'"):
        library.candidates(make_task("lft"))
    assert len(library.candidates(make_task("push"), {"active", "shadow"})) == 3


def test_a_suite_without_skills_is_an_error_only_for_a_strict_request():
    library = Library.load()
    assert library.select("chess") == ()
    assert library.select("chess", {"active", "shadow", "retired"}) == ()
    assert list(Library([])) == []
    assert Library([]).select("chess") == ()
    with pytest.raises(
        UnknownName, match=r"for the suite 'alfworld': the library is empty\. Give it a folder with skills"
    ):
        Library.load(builtin=False).select("alfworld", strict=True)
    with pytest.raises(UnknownName, match="no skills for the suite 'chess'; there are some for alfworld, search_qa"):
        library.select("chess", strict=True)
    with pytest.raises(UnknownName, match="no skills for the suite 'chess'"):
        library.candidates(make_task(suite="chess"))


def test_a_suite_whose_skills_are_all_retired_is_known_and_has_none():
    library = Library([make_skill("a", "lift", status="retired")])
    assert library.select("toy", strict=True) == ()


def test_skills_of_a_suite_of_ones_own_are_read_from_a_folder_and_retrieved(tmp_path):
    skill = make_skill("open-with-e4", "opening", suite="chess")
    save_skill(skill, tmp_path)
    library = Library.load(tmp_path)
    assert library.select("chess") == (skill,)
    task = make_task("opening", "win", suite="chess")
    found = make_retriever("task_type", library).retrieve(task, 3, None, random.Random(0))
    assert [item.skill for item in found] == [skill]


@pytest.mark.parametrize("suite", ["Acme", "chess_2.0", "my-suite"])
def test_any_folder_name_is_a_suite(suite, tmp_path):
    save_skill(make_skill("a", suite=suite), tmp_path)
    assert Library.load(tmp_path, builtin=False).suites == (suite,)


def test_the_suite_is_that_of_the_task_and_not_of_its_id():
    task = Task("house-1", "acme/Chess-v0", "train", "opening", "win", suite="chess")
    assert Library([make_skill("a", "opening", suite="chess")]).candidates(task) != ()


# -- the skills of this package ---------------------------------------------------------------


def test_every_task_type_has_a_skill_and_every_suite_general_ones():
    library = Library.load()
    for suite, types in TASK_TYPES.items():
        skills = library.select(suite)
        assert {skill.task_type for skill in skills} == {*types, None}
        assert sum(skill.task_type is None for skill in skills) >= 3


@pytest.mark.parametrize("skill", builtin_skills(), ids=lambda skill: skill.id)
def test_built_in_skills_are_short_and_complete(skill):
    assert 60 <= len(skill.text.split()) <= 250
    assert skill.description.count(". For ") == 1
    assert skill.status == "active"
    assert skill.origin
    assert skill.created_by
    assert skill.metadata["license"] == "Apache-2.0"
    # What the keyword strategy finds it by. General skills come anyway, and no word says that the kind was not told.
    assert ("keywords" in skill.metadata) == (skill.task_type not in (None, "shopping", UNCLASSIFIED))


def test_built_in_skills_lie_where_their_ids_say():
    root = Path(__file__).parents[3] / "skills" / "sdar_skills" / "builtin"
    paths = {path.relative_to(root).parent.as_posix() for path in root.rglob("SKILL.md")}
    assert paths == {skill.id for skill in builtin_skills()}
