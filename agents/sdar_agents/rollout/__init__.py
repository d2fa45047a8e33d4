"""Rollouts: batched episodes of a policy, their prompts, rewards, and the files that keep them."""
