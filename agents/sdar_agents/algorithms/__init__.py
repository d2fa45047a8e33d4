"""Training methods: GRPO, GiGPO, SDAR and its family, and their controls; losses, advantages, shaping.

`make_algorithm("sdar", suite="webshop", beta=10)` makes one by name. Importing this loads torch.
"""

from sdar_agents.algorithms.algorithm import Algorithm, LossOutput, TokenAdvantages
from sdar_agents.algorithms.declarations import Declarations
from sdar_agents.algorithms.grpo import GRPO, Coefficients, Distillation
from sdar_agents.algorithms.methods.adrs import ADRS
from sdar_agents.algorithms.methods.agentopsd import AgentOPSD
from sdar_agents.algorithms.methods.gigpo import GiGPO
from sdar_agents.algorithms.methods.grsd import GRSD
from sdar_agents.algorithms.methods.ocsd import OCSD
from sdar_agents.algorithms.methods.opid import OPID
from sdar_agents.algorithms.methods.opsd import OPSD, GRPOWithOPSD
from sdar_agents.algorithms.methods.rlsd import RLSD
from sdar_agents.algorithms.methods.sdar import SDAR, GRPOWithOPSDBeta0, OPSDScript
from sdar_agents.algorithms.methods.sdpo import SDPO
from sdar_agents.algorithms.methods.serl import SERL
from sdar_agents.algorithms.methods.skill_grpo import SkillGRPO
from sdar_agents.algorithms.methods.skill_sd import SkillSD
from sdar_agents.algorithms.methods.stepopsd import StepOPSD
from sdar_agents.algorithms.methods.ucob import UCOB
from sdar_agents.algorithms.registry import ALGORITHMS, SUITES, Preset, find_algorithm, make_algorithm

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
