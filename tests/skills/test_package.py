"""The public face of the package: what it exports, and what importing it loads."""

from __future__ import annotations

import subprocess
import sys

import sdar_skills


def test_the_package_exports_what_users_need():
    assert sdar_skills.__all__ == [
        "NO_SKILL",
        "Ledger",
        "Library",
        "LibraryRetriever",
        "Retrieved",
        "Retriever",
        "Skill",
        "Statistics",
        "Status",
        "TeacherContext",
        "make_retriever",
        "rebuild_context",
        "register_retriever",
        "retriever_names",
        "retriever_settings",
        "save_skill",
        "showings_of_group",
        "teacher_context",
        "teacher_messages",
    ]
    assert all(hasattr(sdar_skills, name) for name in sdar_skills.__all__)


def test_importing_it_loads_no_retriever_no_search_engine_and_no_generator():
    code = "import sdar_skills, sys; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    )
    assert "sdar_skills.retrieval.registry" in loaded
    heavy = {"bandits", "coverage", "homes", "search", "strategies"}
    assert not loaded & {f"sdar_skills.retrieval.{name}" for name in heavy}
    assert not loaded & {"sdar_envs.bm25", "sdar_envs.alfworld.generator", "torch", "pydantic", "rich", "requests"}


def test_importing_it_reads_no_skill_and_opens_no_database():
    code = (
        "import sys, sdar_envs\n"
        "opened = []\n"
        "sys.addaudithook(lambda event, args: opened.append((event, str(args[0])))"
        " if event in ('open', 'sqlite3.connect') else None)\n"
        "import sdar_skills\n"
        "print(*[name for event, name in opened if event == 'sqlite3.connect' or name.endswith('.md')])\n"
        "sdar_skills.Library.load()\n"
        "print(sum(name.endswith('.md') for _, name in opened) > 20)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["True"]
