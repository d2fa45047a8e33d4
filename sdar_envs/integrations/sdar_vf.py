"""The taskset `sdar-vf` of verifiers, as the module `sdar_vf`, into which the wheel turns this file.

verifiers takes the id of a taskset for the name of a top-level module.
"""

from sdar_envs.integrations.verifiers import SdarEnv, SdarTaskset

__all__ = ["SdarEnv", "SdarTaskset"]
