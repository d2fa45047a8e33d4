"""The learner: updates a model from the rows of a step, with mini-batches, gradient accumulation and teachers."""

from sdar_agents.learner.conformance import Conformance, check_algorithm
from sdar_agents.learner.learner import Learner, LearnResult
from sdar_agents.learner.phases import Phases
from sdar_agents.learner.settings import LearnerSettings, TeacherKind
from sdar_agents.learner.teachers import Scorer, open_teacher
from sdar_agents.learner.token_marks import TokenSignals, token_marks, turn_marks
from sdar_agents.learner.weights import Weights

__all__ = [
    "Conformance",
    "LearnResult",
    "Learner",
    "LearnerSettings",
    "Phases",
    "Scorer",
    "TeacherKind",
    "TokenSignals",
    "Weights",
    "check_algorithm",
    "open_teacher",
    "token_marks",
    "turn_marks",
]
