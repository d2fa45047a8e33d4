"""Training methods: GRPO, SDAR, OPSD, RLSD, Skill-SD, Skill-GRPO and their controls; losses and advantages.

`make_algorithm("sdar", suite="webshop", beta=10)` makes one by name. Importing this loads torch.
"""

from sdar_agents.algorithms.algorithm import Algorithm, LossOutput
from sdar_agents.algorithms.grpo import GRPO, Distillation, TokenAdvantages
from sdar_agents.algorithms.opsd import OPSD, GRPOWithOPSD
from sdar_agents.algorithms.registry import ALGORITHMS, SUITES, Preset, find_algorithm, make_algorithm
from sdar_agents.algorithms.rlsd import RLSD
from sdar_agents.algorithms.sdar import SDAR, GRPOWithOPSDBeta0, OPSDScript
from sdar_agents.algorithms.skill_grpo import SkillGRPO
from sdar_agents.algorithms.skill_sd import SkillSD

__all__ = [
    "ALGORITHMS",
    "GRPO",
    "OPSD",
    "RLSD",
    "SDAR",
    "SUITES",
    "Algorithm",
    "Distillation",
    "GRPOWithOPSD",
    "GRPOWithOPSDBeta0",
    "LossOutput",
    "OPSDScript",
    "Preset",
    "SkillGRPO",
    "SkillSD",
    "TokenAdvantages",
    "find_algorithm",
    "make_algorithm",
]
