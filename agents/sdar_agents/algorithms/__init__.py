"""Training methods: GRPO, GiGPO, SDAR and its family, and their controls; losses, advantages, shaping.

`make_algorithm("sdar", suite="webshop", beta=10)` makes one by name. Importing this loads torch.
"""

from sdar_agents.algorithms.adrs import ADRS
from sdar_agents.algorithms.agentopsd import AgentOPSD
from sdar_agents.algorithms.algorithm import Algorithm, LossOutput, TokenAdvantages
from sdar_agents.algorithms.declarations import Declarations
from sdar_agents.algorithms.gigpo import GiGPO
from sdar_agents.algorithms.grpo import GRPO, Coefficients, Distillation
from sdar_agents.algorithms.grsd import GRSD
from sdar_agents.algorithms.ocsd import OCSD
from sdar_agents.algorithms.opid import OPID
from sdar_agents.algorithms.opsd import OPSD, GRPOWithOPSD
from sdar_agents.algorithms.registry import ALGORITHMS, SUITES, Preset, find_algorithm, make_algorithm
from sdar_agents.algorithms.rlsd import RLSD
from sdar_agents.algorithms.sdar import SDAR, GRPOWithOPSDBeta0, OPSDScript
from sdar_agents.algorithms.sdpo import SDPO
from sdar_agents.algorithms.serl import SERL
from sdar_agents.algorithms.skill_grpo import SkillGRPO
from sdar_agents.algorithms.skill_sd import SkillSD
from sdar_agents.algorithms.stepopsd import StepOPSD
from sdar_agents.algorithms.ucob import UCOB

__all__ = [
    "ADRS",
    "ALGORITHMS",
    "GRPO",
    "GRSD",
    "OCSD",
    "OPID",
    "OPSD",
    "RLSD",
    "SDAR",
    "SDPO",
    "SERL",
    "SUITES",
    "UCOB",
    "AgentOPSD",
    "Algorithm",
    "Coefficients",
    "Declarations",
    "Distillation",
    "GRPOWithOPSD",
    "GRPOWithOPSDBeta0",
    "GiGPO",
    "LossOutput",
    "OPSDScript",
    "Preset",
    "SkillGRPO",
    "SkillSD",
    "StepOPSD",
    "TokenAdvantages",
    "find_algorithm",
    "make_algorithm",
]
