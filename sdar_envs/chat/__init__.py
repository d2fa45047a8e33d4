"""Episodes as chat, for evaluation, rollouts and other people's trainers."""

from sdar_envs.chat.conversation import ChatMode, Conversation, Messages
from sdar_envs.chat.episode import ChatEpisode, ChatStep

__all__ = ["ChatEpisode", "ChatMode", "ChatStep", "Conversation", "Messages"]
