"""Skills: what a teacher may read and the student never sees.

    library = Library.load()
    retriever = make_retriever("task_type", library)
    skills = retriever.retrieve(task, k=6, token_budget=None, rng=random.Random(0))
    context = teacher_context(prompt, skills)

`library` reads and writes SKILL.md files, `retrievers` chooses skills for a task, `context` puts them into a prompt,
`formats` trades with other collections of skills, `coverage` finds gaps, `homes` makes skills of small ALFWorld rooms.
`ledger` keeps what became of skills that were shown, `statistics` sums it up, `bandits` choose by it; `experience`
proposes skills, `trial` promotes or retires them.
"""

from sdar_skills.context import TeacherContext, rebuild_context, teacher_context, teacher_messages
from sdar_skills.evidence.ledger import NO_SKILL, Ledger, showings_of_group
from sdar_skills.evidence.statistics import Statistics
from sdar_skills.library.homes import HomeRetriever, home_skill
from sdar_skills.library.library import Library, save_skill
from sdar_skills.library.skill import Retrieved, Retriever, Skill, Status
from sdar_skills.retrieval.bandits import HybridRetriever, ThompsonRetriever, UcbRetriever
from sdar_skills.retrieval.retrievers import LibraryRetriever, make_retriever, register_retriever, retriever_names

__all__ = [
    "NO_SKILL",
    "HomeRetriever",
    "HybridRetriever",
    "Ledger",
    "Library",
    "LibraryRetriever",
    "Retrieved",
    "Retriever",
    "Skill",
    "Statistics",
    "Status",
    "TeacherContext",
    "ThompsonRetriever",
    "UcbRetriever",
    "home_skill",
    "make_retriever",
    "rebuild_context",
    "register_retriever",
    "retriever_names",
    "save_skill",
    "showings_of_group",
    "teacher_context",
    "teacher_messages",
]
