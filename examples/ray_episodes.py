"""Episodes on many machines with Ray: `pip install ray .`, then `python ray_episodes.py`.

A step takes tens of microseconds, a message between processes hundreds, so each actor plays whole episodes.
"""

import time

import ray

import sdar_envs


@ray.remote
class Player:
    def __init__(self, env_id):
        self.episode = sdar_envs.ChatEpisode(env_id)

    def play(self, rows):
        results = []
        for row in rows:
            step = self.episode.reset(task=row)
            while not step.is_over:  # with a model: step = self.episode.step(model(step.messages))
                step = self.episode.act(step.info["admissible_commands"][0])
            results.append((row["task_id"], step.info["won"], step.info["step"]))
        return results


def main(env_id="sdar/ALFWorld-v0", actors=2, episodes=2000, share=50):
    ray.init(num_cpus=actors)
    rows = list(sdar_envs.task_rows(env_id, split="train", limit=episodes))
    pool = ray.util.ActorPool([Player.remote(env_id) for _ in range(actors)])
    shares = [rows[first : first + share] for first in range(0, episodes, share)]
    started = time.perf_counter()
    results = [result for part in pool.map(lambda player, part: player.play.remote(part), shares) for result in part]
    spent, steps = time.perf_counter() - started, sum(step for _, _, step in results)
    print(f"{len(results) / spent:,.0f} episodes and {steps / spent:,.0f} steps a second with {actors} actors")


if __name__ == "__main__":
    main()
