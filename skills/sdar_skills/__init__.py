"""Skills for language agents: a library of SKILL.md files, retrieval, teacher contexts, and a ledger of what helped.

    library = Library.load()
    retriever = make_retriever("task_type", library)
    skills = retriever.retrieve(task, k=6, token_budget=None, rng=random.Random(0))
    context = teacher_context(prompt, skills)

Folders, each importing only from those before it:

- `library`: the data types, SKILL.md files, lookups by id, suite and task type;
- `evidence`: the ledger of shown skills and its statistics; proposing, promoting and retiring skills;
- `retrieval`: the strategies that choose skills for a task, by name or as `module:name`; coverage of a task panel;
- `context` puts skills into a prompt, `formats` imports and exports other collections.
"""

from sdar_skills.context import TeacherContext, rebuild_context, teacher_context, teacher_messages
from sdar_skills.evidence.ledger import NO_SKILL, Ledger, showings_of_group
from sdar_skills.evidence.statistics import Statistics
from sdar_skills.library.library import Library, save_skill
from sdar_skills.library.skill import Retrieved, Retriever, Skill, Status
from sdar_skills.retrieval.base import LibraryRetriever
from sdar_skills.retrieval.registry import make_retriever, register_retriever, retriever_names, retriever_settings

__all__ = [
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
