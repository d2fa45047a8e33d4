"""Skills: what a teacher may read and the student never sees.

    library = Library.load()
    retriever = make_retriever("task_type", library)
    skills = retriever.retrieve(task, k=6, token_budget=None, rng=random.Random(0))
    context = teacher_context(prompt, skills)

`library` reads and writes SKILL.md files, `retrievers` chooses skills for a task, `context` puts them into a prompt,
`formats` trades with other collections of skills, `coverage` finds gaps.
"""

from sdar_skills.context import TeacherContext, rebuild_context, teacher_context, teacher_messages
from sdar_skills.library import Library, save_skill
from sdar_skills.retrievers import LibraryRetriever, make_retriever, register_retriever, retriever_names
from sdar_skills.skill import Retrieved, Retriever, Skill, Status

__all__ = [
    "Library",
    "LibraryRetriever",
    "Retrieved",
    "Retriever",
    "Skill",
    "Status",
    "TeacherContext",
    "make_retriever",
    "rebuild_context",
    "register_retriever",
    "retriever_names",
    "save_skill",
    "teacher_context",
    "teacher_messages",
]
