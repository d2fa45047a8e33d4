"""WebShop environment (`sdar/WebShop-v0`), equal to the original in every character and every digit of the score."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, get_args

from sdar_envs.core import Outcome, Task, TextEnv, is_integer, rebuilt
from sdar_envs.errors import EpisodeOver, InvalidOption, UnsolvableGame, check_choice
from sdar_envs.webshop.goals import CANONICAL_SEED, SPLITS, VERL_AGENT_SPLITS, Goal, Goals, GoalTasks
from sdar_envs.webshop.nouns import noun_flags
from sdar_envs.webshop.oracle import plan
from sdar_envs.webshop.pages import Pages
from sdar_envs.webshop.reward import Quirks, TheFuzz
from sdar_envs.webshop.session import Controls, Session, SessionState
from sdar_envs.webshop.shop import Shop, UnansweredSearch, open_shop

__all__ = ["WebShopEnv"]

_ID = "sdar/WebShop-v0"

Data = Literal["embedded", "official"]
GoalKind = Literal["synthetic", "human"]
Observation = Literal["text", "text_rich", "url"]
ProtocolName = Literal["canonical", "verl-agent"]
Reward = Literal["score", "success"]


class WebShopEnv(TextEnv[SessionState]):
    """Online shopping in text: find the product that an instruction describes, choose its options, buy it.

    **Observation**: the page, to the character as WebShop prints it: `text` (default; one line, parts joined by
    ` [SEP] `), `text_rich` (lines, buttons marked, chosen options visible) or `url`.

    **Action**: `search[words]`, on every page, or `click[name]`, where the name is a button, a product's ASIN or an
    option's value on the page, in any case. Any other text changes nothing and counts as a step, with
    `info["is_action_valid"]` False.

    **Reward**: 0 until something is bought, then `reward="score"`: the score from 0 to 1 for how well product, options
    and price fit (see `sdar_envs.webshop.reward`), or `reward="success"`: 1 for a score of 1, else 0. Times
    `reward_scale`.

    **Episode end**: `terminated` when something is bought; `truncated` after `max_steps` actions.

    **Info**: the common keys (`sdar_envs.INFO_TYPES`); `score` is the task score, `is_success` says that it is 1,
    `task_type` is the department of the goal's product. `admissible_commands` are all clicks that do something on
    the page and, where the page has a search bar, the template `search[<your query>]`, which stands for any search
    (sent as it is, it searches for these words). Besides: `available_actions`, the original's
    `{"has_search_bar": bool, "clickables": list}`, in which `search` is a button that does nothing;
    `reward_info`, the parts of the score, empty until the purchase; `title_score_exact`, False if the nouns of titles
    are guessed because spaCy is not installed (see `sdar_envs.webshop.nouns`).

    **Departures from the original**: an episode ends with the purchase (the original plays on). Hidden prices and price
    limits are drawn with a seed; the original draws them unseeded in each process, so its instructions differ between
    runs. The searches `<a>` and a bare `<c>`, on which the original's text environment raises, do nothing. The search
    `<r>` for random products depends on the goal and on how often it was used. Seeds draw all goals of the
    split alike; the original's random sessions prefer rare attributes (`sdar_envs.webshop.original`).

    **Arguments of the original** that are missing: `observation_mode="html"` (`sdar serve webshop` serves HTML),
    `get_image` (image features are no text), `filter_goals` and `limit_goals` (play goals of your choice by `task_id`),
    `num_prev_obs` and `num_prev_actions` (prompts show the history: `sdar_envs.prompt`), `session` strings (ids that
    keep their goals: `sdar_envs.webshop.original.OriginalSessions`). `show_attrs` is `show_attributes` here.

    Args:
        data: `embedded` (made by us, no download) or `official` (from `data_dir`).
        split: `test` (goals 0 to 499 after the canonical shuffle), `valid` (500 to 1,499) or `train` (from 1,500).
        data_dir: folder of the official files; None for `$WEBSHOP_DATA`.
        goals: `synthetic` (filled templates) or `human` (written by people).
        observation: `text`, `text_rich` or `url`.
        quirks: `original`, or `fixed`, in which every wanted option can be met and values with brackets can be
            clicked: see `sdar_envs.webshop.reward` and `sdar_envs.webshop.actions`.
        thefuzz: `0.22` or `0.19`, the version whose comparison of texts is repeated: see `sdar_envs.webshop.reward`.
        show_attributes: show the button and the page of a product's attributes; the original's `show_attrs`.
        reward: `score` or `success`.
        protocol: `canonical`, or `verl-agent`: prices and order of the goals are drawn with `worker_seed`, as in each
            worker of verl-agent and SDAR, with `valid` (0 to 499) and `train` (from 500). It is leaky: a goal that one
            worker validates on is in the training pool of nearly all others, and the same index is another goal
            in each worker. For comparison with published numbers only.
        worker_seed: for `protocol="verl-agent"`: the trainer's seed plus the number of the worker's group, for
            validation plus 1,000. All workers and what they play: `sdar_envs.webshop.verl_agent.VerlAgentWebShop`.
        num_products: only the products among the first so many records; None for all.
        max_steps: step limit.
        reward_scale: factor on the reward; verl-agent and SDAR use 10 with `reward="success"`.
        render_mode: None, `ansi` or `human`.
    """

    suite = "webshop"
    evaluation_split = "test"

    def __init__(
        self,
        *,
        data: Data = "embedded",
        split: str = "train",
        data_dir: str | None = None,
        goals: GoalKind = "synthetic",
        observation: Observation = "text",
        quirks: Quirks = "original",
        thefuzz: TheFuzz = "0.22",
        show_attributes: bool = False,
        reward: Reward = "score",
        protocol: ProtocolName = "canonical",
        worker_seed: int = 0,
        num_products: int | None = None,
        max_steps: int = 15,
        reward_scale: float = 1.0,
        render_mode: str | None = None,
    ) -> None:
        for name, value, kind in (
            ("data", data, Data),
            ("goals", goals, GoalKind),
            ("observation", observation, Observation),
            ("quirks", quirks, Quirks),
            ("thefuzz", thefuzz, TheFuzz),
            ("reward", reward, Reward),
            ("protocol", protocol, ProtocolName),
        ):
            check_choice(name, value, get_args(kind))
        if data == "embedded" and data_dir is not None:
            raise InvalidOption(
                f"data_dir is {data_dir!r}, but the embedded catalogue needs none: pass data='official' too."
            )
        if not isinstance(show_attributes, bool):
            raise InvalidOption(f"show_attributes is {show_attributes!r}; wanted True or False.")
        for name, number, least in (("num_products", num_products, 1), ("worker_seed", worker_seed, 0)):
            if number is not None and (not is_integer(number) or number < least):
                raise InvalidOption(f"{name} is {number!r}; wanted an integer of at least {least}.")
        if protocol == "canonical" and worker_seed != 0:
            raise InvalidOption(f"worker_seed is {worker_seed}, but only protocol='verl-agent' has workers.")
        worker_seed = int(worker_seed)
        num_products = None if num_products is None else int(num_products)
        self._arguments = {
            "data": data,
            "split": split,
            "data_dir": data_dir,
            "goals": goals,
            "observation": observation,
            "quirks": quirks,
            "thefuzz": thefuzz,
            "show_attributes": show_attributes,
            "reward": reward,
            "protocol": protocol,
            "worker_seed": worker_seed,
            "num_products": num_products,
            "max_steps": max_steps,
            "reward_scale": reward_scale,
            "render_mode": render_mode,
        }
        shop = open_shop(data, data_dir=data_dir, human=goals == "human", num_products=num_products)
        super().__init__(
            _source(shop, goals, data == "embedded" and num_products is None, protocol, worker_seed),
            split=split,
            max_steps=max_steps,
            reward_scale=reward_scale,
            render_mode=render_mode,
        )
        self.source: GoalTasks
        self._controls, pages = _shared(shop, quirks, thefuzz, show_attributes)
        self._render: Callable[[Session], str] = {
            "text": pages.text,
            "text_rich": pages.rich_text,
            "url": Session.url,
        }[observation]
        self._by_success = reward == "success"
        self._exact = shop.nouns.is_exact
        self._session: Session

    def __reduce__(self) -> tuple[Any, ...]:
        # The shop is shared, large and mapped from files: a copy finds it again and takes over the episode.
        return rebuilt, (type(self), self._arguments, self._position())

    @property
    def shop(self) -> Shop:
        """The shop, shared by environments with equal arguments."""
        return self._controls.shop

    @property
    def quirks(self) -> Quirks:
        """How actions are parsed and purchases scored."""
        return self._controls.quirks

    @property
    def goal(self) -> Goal:
        """The current goal, its hidden parts included."""
        if self._task is None:
            raise EpisodeOver("there is no goal before the first reset(): call reset() first.")
        return self._session.goal

    def oracle_plan(self) -> tuple[str, ...]:
        """Return actions that buy the goal's product with a full score from here; none if that is done."""
        task = self.task
        found = plan(self._session)
        if found is None:
            raise UnsolvableGame(
                f"{task.id} cannot be bought with a full score from here: an option that it wants is never matched or "
                "cannot be clicked (quirks='fixed' repairs most), or the episode is over."
            )
        return found

    def _begin(self, task: Task) -> str:
        self._session = self._start(task)
        return self._render(self._session)

    def _act(self, action: str) -> Outcome:
        session = self._session
        try:
            acted = session.act(action)
        except UnansweredSearch:
            acted = False
        purchase = session.state.purchase
        if purchase is None:
            observation = self._render(session) if acted else self._observation
            return Outcome(observation, 0.0, False, False, acted)
        return Outcome(self._render(session), purchase.score, True, purchase.score == 1.0, acted)

    def _commands(self) -> list[str]:
        return self._session.commands()

    def _save(self) -> SessionState:
        return self._session.state

    def _load(self, task: Task, state: SessionState) -> None:
        # By id: a goal of another catalogue may have the same number.
        self._session = self._start(self.source.find(task.id))
        self._session.state = state

    def _variant(self) -> str:
        marks = ["attributes"] if self._arguments["show_attributes"] else []
        marks += [f"thefuzz {self._controls.thefuzz}"] if self._controls.thefuzz != "0.22" else []
        return ", ".join([str(self._arguments["observation"]), f"quirks {self.quirks}", *marks])

    def _data_flags(self) -> dict[str, str]:
        return noun_flags(self._exact)

    def _env_id(self) -> str:
        return _ID

    def _reward(self, outcome: Outcome) -> float:
        return super()._reward(outcome) if self._by_success else outcome.score

    def _extra_info(self) -> dict[str, Any]:
        purchase = self._session.state.purchase
        return {
            "available_actions": self._session.available_actions(),
            "reward_info": {} if purchase is None else dict(purchase.breakdown),
            "title_score_exact": self._exact,
        }

    def _start(self, task: Task) -> Session:
        goal = self.source.goal(task)
        return Session(self._controls, self.source.goals, goal, str(goal.index))


@lru_cache(maxsize=16)
def _shared(shop: Shop, quirks: Quirks, thefuzz: TheFuzz, show_attributes: bool) -> tuple[Controls, Pages]:
    """Return what the environments of a process share besides the shop."""
    controls = Controls(shop, quirks, thefuzz=thefuzz, show_attributes=show_attributes)
    return controls, Pages(shop, controls.sub_pages)


# Goals are small, and verl-agent has an order of its own for each of its many groups.
@lru_cache(maxsize=512)
def _source(shop: Shop, kind: GoalKind, is_plain: bool, protocol: ProtocolName, worker_seed: int) -> GoalTasks:
    """Return the task source that equal environments of the process share."""
    canonical = protocol == "canonical"
    seed = CANONICAL_SEED if canonical else worker_seed
    marks = [
        *([] if is_plain else [shop.catalog.fingerprint[:8]]),
        *([] if kind == "synthetic" else [kind]),
        *([] if canonical else [f"{protocol}-{worker_seed}"]),
    ]
    goals = Goals(shop.catalog, kind, seed=seed, shuffle_seed=seed)
    return GoalTasks(goals, _ID, "-".join(marks), SPLITS if canonical else VERL_AGENT_SPLITS)
