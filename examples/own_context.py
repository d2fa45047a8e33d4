"""A context of your own: the teacher reads which commands of the group were refused, and how its best attempt ended.

Run `python own_context.py`, or in this folder
`sdar train --config alfworld_sdar_tiny --context own_context:RefusedCommands`.
"""

import sdar_envs
from sdar_agents import RandomAgent, Rollout, RolloutSettings, ScriptedPolicy
from sdar_agents.contexts import Ask, Groups, Review, View


class RefusedCommands:
    """What all attempts at a task have learnt together; it remembers nothing, so it has no state."""

    def __init__(self, most: int = 5) -> None:
        self.most = most  # `--context.options.most 3`

    def review(self, groups: Groups, ask: Ask, *, step: int, seed: int) -> Review:
        views: dict[tuple[str, int], tuple[View | None, ...]] = {}
        for group in groups:
            refused = [turn.action for episode in group for turn in episode.turns if not turn.is_action_valid]
            best = max(group, key=lambda episode: episode.episode_return)
            ending = f"The best attempt ended like this: {best.final_observation}"
            known = [*dict.fromkeys(refused)][: self.most]
            view = View(("From other attempts:", *(f"{command!r} is refused." for command in known), ending))
            views |= {(episode.episode_id, turn): (view,) for episode in group for turn in range(len(episode.turns))}
        return Review(views, metrics={"refused": float(len(refused))})


if __name__ == "__main__":
    settings = RolloutSettings("sdar/ALFWorld-v0", {"max_steps": 5})
    tasks = sdar_envs.tasks("sdar/ALFWorld-v0", split="train", limit=2)
    played = Rollout(settings, ScriptedPolicy(RandomAgent)).collect(tasks, group_size=2, seed=0, step=1).trajectories
    review = RefusedCommands().review([played[:2], played[2:]], ask=None, step=1, seed=0)  # type: ignore[arg-type]
    [view] = review.views[played[0].episode_id, 1]
    assert view is not None and played[0].turns[1].parts is not None  # noqa: PT018
    print(played[0].turns[1].parts.messages(view.paragraphs, view.after)[-1]["content"])
