"""Several processes in one training run: the process group (torch.distributed), and what its ranks exchange."""

from sdar_agents.parallel.world import World, is_lost, is_told, join_world

__all__ = ["World", "is_lost", "is_told", "join_world"]
