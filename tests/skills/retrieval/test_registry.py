"""Retrievers by name: built in, registered, and of one's own as `module:name`."""

from __future__ import annotations

import random
import sys

import pytest
from helpers.skill_toys import make_skill, make_task

from sdar_envs.errors import InvalidOption, UnknownName
from sdar_skills import (
    Library,
    LibraryRetriever,
    Retrieved,
    make_retriever,
    register_retriever,
    retriever_names,
    retriever_settings,
)
from sdar_skills.retrieval import registry

LIBRARY = Library([make_skill("bend", "lift"), make_skill("grip", "lift"), make_skill("lean", "push")])
OWN = """
from sdar_skills import LibraryRetriever, Retrieved


class Backwards(LibraryRetriever):
    def _rank(self, task, candidates, k, rng):
        return [Retrieved(skill, 0.0, "backwards") for skill in reversed(candidates)]


class Plain:
    def __init__(self, library, depth, *, count_tokens=None):
        self.library, self.depth = library, depth

    def retrieve(self, task, k, token_budget, rng):
        return tuple(Retrieved(skill, 1.0, "plain") for skill in self.library)[: min(k, self.depth)]


class Shelf:
    class Inner(Plain):
        pass


class WithoutLibrary:
    def retrieve(self, task, k, token_budget, rng):
        return ()


class KeywordLibrary(Plain):
    def __init__(self, *, library):
        super().__init__(library, 1)


class Narrow:
    def __init__(self, library):
        pass

    def retrieve(self, task):
        return ()


def plain(library, **settings):
    return Plain(library, **settings)


def variadic(*args):
    return Plain(*args, depth=1)


def forgetful(library):
    return None


an_instance = Plain(None, 1)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module in the working directory, which is not on `sys.path` yet."""
    (tmp_path / "my_skills_module.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    yield "my_skills_module"
    sys.modules.pop("my_skills_module", None)


def found(retriever, k=2):
    return [item.skill.name for item in retriever.retrieve(make_task(), k, None, random.Random(0))]


def test_built_in_strategies_are_made_by_name():
    settings = {name: {"statistics": None} for name in ("ucb", "thompson", "hybrid")} | {"embedding": {"encoder": len}}
    for name in retriever_names():
        assert isinstance(make_retriever(name, LIBRARY, **settings.get(name, {})), LibraryRetriever)


def test_a_wrong_name_or_setting_is_refused_with_a_suggestion():
    with pytest.raises(UnknownName, match=r"no strategy 'task-type'.*or module:name.*Did you mean 'task_type'"):
        make_retriever("task-type", LIBRARY)
    with pytest.raises(UnknownName, match=r"no setting 'count_token'.*Did you mean 'count_tokens'"):
        make_retriever("full", LIBRARY, count_token=len)
    with pytest.raises(InvalidOption, match="'embedding' needs encoder"):
        make_retriever("embedding", LIBRARY)


def test_a_registered_strategy_is_made_by_its_name(monkeypatch):
    class Backwards(LibraryRetriever):
        def _rank(self, task, candidates, k, rng):
            return [Retrieved(skill, 0.0, "backwards") for skill in reversed(candidates)]

    monkeypatch.setattr(registry, "_FACTORIES", dict(registry._FACTORIES))
    register_retriever("backwards", Backwards)
    register_retriever("backwards", Backwards)
    assert found(make_retriever("backwards", LIBRARY)) == ["lean", "grip"]
    with pytest.raises(InvalidOption, match="'backwards' is there already"):
        register_retriever("backwards", LibraryRetriever)
    with pytest.raises(InvalidOption, match="'full' is there already"):
        register_retriever("full", Backwards)


def test_a_class_or_a_function_of_ones_own_is_found_in_the_working_directory(own):
    assert found(make_retriever(f"{own}:Backwards", LIBRARY)) == ["lean", "grip"]
    assert found(make_retriever(f"{own}:Plain", LIBRARY, depth=1)) == ["bend"]
    assert found(make_retriever(f"{own}:Shelf.Inner", LIBRARY, depth=2)) == ["bend", "grip"]
    assert found(make_retriever(f"{own}:plain", LIBRARY, depth=1)) == ["bend"]
    assert found(make_retriever(f"{own}:variadic", LIBRARY)) == ["bend"]


def test_settings_of_ones_own_class_are_checked_like_those_of_the_strategies(own):
    with pytest.raises(UnknownName, match=r"no setting 'dept'; its settings are depth, count_tokens. Did you mean 'd"):
        make_retriever(f"{own}:Plain", LIBRARY, dept=1)
    with pytest.raises(InvalidOption, match=r"Plain' needs depth: pass depth="):
        make_retriever(f"{own}:Plain", LIBRARY)
    with pytest.raises(UnknownName, match=r"no setting 'depth'; its settings are none"):
        make_retriever(f"{own}:Narrow", LIBRARY, depth=1)


def test_names_that_lead_nowhere_are_refused_with_a_suggestion(own):
    with pytest.raises(UnknownName, match=r"has no 'Backward'; wanted a retriever.*Did you mean 'Backwards'"):
        make_retriever(f"{own}:Backward", LIBRARY)
    with pytest.raises(UnknownName, match="cannot be imported"):
        make_retriever("my_skills_modul:Backwards", LIBRARY)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("an_instance", "is an object of Plain; wanted a class or a function"),
        ("WithoutLibrary", "takes no library; wanted a class or a function whose first argument is the library"),
        ("KeywordLibrary", "takes no library"),
        ("forgetful", r"made a NoneType, which has no method retrieve; wanted an object with retrieve\(task, k"),
        ("Narrow", r"made a Narrow with retrieve\(task\); wanted retrieve\(task, k, token_budget, rng\)"),
    ],
)
def test_what_is_no_retriever_is_refused_when_it_is_made(own, name, message):
    with pytest.raises(InvalidOption, match=message):
        make_retriever(f"{own}:{name}", LIBRARY)


def test_the_settings_of_a_retriever_are_known_before_it_is_made(own):
    assert retriever_settings("task_type") == ("count_tokens", "include_shadow")
    assert "statistics" in retriever_settings("ucb")
    assert retriever_settings(f"{own}:Plain") == ("depth", "count_tokens")
    assert retriever_settings(f"{own}:plain") == ()
