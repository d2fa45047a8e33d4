"""Prompts of whole episodes: those of the chat agent, of rollouts and of `ChatEpisode` are what they always were.

The digests were computed by the code before `sdar_envs.chat`, in which players and rollouts built their own prompts.
Those of Search-QA are newer: other questions have the seeds since some of the facts' questions were taken out.
"""

import random

import pytest
from helpers.chat_play import CASES, agent_prompts, digest, draw_completion, rollout_prompts

from sdar_envs import ChatEpisode

DIGESTS = [
    # of the chat agent, of a rollout, of a terse one
    ("e3e21560a4e9b249", "16f56931a1fc2c81", "b200550dd1488a11"),
    ("6cc06614464da651", "fb6e618a9614835c", "ebe74495b0cf0770"),
    ("e77030db03e8138f", "fdc46f086b906213", "7c02e6e7a68a9386"),
    ("bed47da1fc6158da", "ee83f39e503df23a", "48a92524dc8f0fcf"),
    ("c8fb41bf4cb3c44a", "d642d9b172fe50ec", "128d862389fe41c0"),
    ("43f342664985db49", "4ce091b91b2560f9", "31dd6df2f07db38c"),
    ("8605e4d11f3c7274", "ef1e8f8a99d749ff", "175b8933a4e2b7c9"),
    ("c622d73baffd3120", "01a4b8def77009dd", "89aba094c4d93c3c"),
    ("46a778a992fba34f", "8ad3ad4d30435277", "39dcb3a000c0fa82"),
    ("47bacaec19a3ee00", "cf6278faeea90ae2", "80dae66a4848d55a"),
    ("f7f88b14da5683a3", "9ce3f4120b16b773", "1e3e9b267b1342f8"),
]


def episode_prompts(case, episodes):
    """Return the prompts and actions of `ChatEpisode`, with the completions of `agent_prompts`."""
    env_id, env_kwargs, style, history_length, system = case
    episode = ChatEpisode(env_id, style=style, history_length=history_length, system=system, **env_kwargs)
    prompts = []
    for seed in range(episodes):
        step, turn = episode.reset(seed=seed), 0
        while not step.is_over:
            completion = draw_completion(
                episode.env, step.observation, episode.env_info, random.Random(1000 * seed + turn)
            )
            messages, turn = step.messages, turn + 1
            assert step.new_messages == messages
            step = episode.step(completion)
            prompts.append([messages, step.action, step.is_well_formed])
        assert step.messages == []
    return prompts


@pytest.mark.parametrize(("case", "wanted"), list(zip(CASES, DIGESTS, strict=True)))
def test_windowed_prompts_are_what_they_were(case, wanted):
    assert digest(agent_prompts(case, 8)) == wanted[0]
    assert digest(episode_prompts(case, 8)) == wanted[0]
    assert digest(rollout_prompts(case, 4, terse=False)) == wanted[1]
    assert digest(rollout_prompts(case, 4, terse=True)) == wanted[2]
