"""Adapters to other trainers and evaluation frameworks; each is a module that imports its framework when it is used.

`sdar_envs.integrations.episodes` has what they share. The pages in `docs/plugs` say how each is used.
"""
