"""Every recorded step of the original: goals, prices, pages, URLs, actions, rewards. See data/LICENSE-NOTE.txt."""

import gzip
import json
import random
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from sdar_envs.bm25.index import SearchIndex
from sdar_envs.webshop.catalog.loading import CatalogFiles, load_catalog
from sdar_envs.webshop.goals import PRICE_RANGE, Goals
from sdar_envs.webshop.nouns import KnownNouns
from sdar_envs.webshop.original import OriginalSessions
from sdar_envs.webshop.reward import COLORS
from sdar_envs.webshop.session import Controls
from sdar_envs.webshop.shop import Shop

DATA = Path(__file__).parent / "data"
GOLDEN = sorted(DATA.glob("golden_*.jsonl.gz"))
STEPS = {"edge200_attributes_tab": 1115, "edge200_human": 1950, "edge200_synthetic": 1933, "plain_synthetic": 1324}


@cache
def shop(catalogue: str, human: bool) -> Shop:
    catalog = load_catalog(CatalogFiles.find(str(DATA / catalogue)), human=human)
    nouns = json.loads((DATA / f"title_nouns_{catalogue.removeprefix('catalogue_')}.json").read_text())
    return Shop(catalog, SearchIndex.build(catalog.documents()), KnownNouns(nouns))


def read(path: Path) -> list[dict]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def replay(sessions: OriginalSessions, episode: dict) -> list[str]:
    """Play an episode and return where it differs."""
    wrong = []
    sessions.rng.seed(episode["rng_seed_before_reset"])
    session = episode["session"]
    if episode.get("session_type") == "numpy.int64":
        session = np.int64(session)
    episode["steps"][0] |= {"session_id": episode["session_id"], "goal_index": episode["goal_index"]}
    for number, step in enumerate(episode["steps"]):
        where = f"episode {episode['episode']} ({episode['policy']}), step {number}, {step['action']!r:.80}"
        if step["action"] is None:
            came = {"observation_text": sessions.reset(session), "reward": None, "done": False, "reward_info": None}
            came |= {"session_id": sessions.session.id, "goal_index": sessions.session.goal.index}
        else:
            try:
                text, reward, done, info = sessions.step(step["action"])
            except Exception as error:
                came = {"error": type(error).__name__}
            else:
                came = {"observation_text": text, "reward": reward, "done": done, "reward_info": info}
        if "error" not in came:
            came["observation_text_rich"] = sessions.pages.rich_text(sessions.session)
            came["url"] = sessions.session.url()
            came["available_actions"] = sessions.session.available_actions()
        for key, wanted in step.items():
            # 0 marks an ignored action, 0.0 one that did something: the type counts.
            if key != "action" and (came.get(key) != wanted or type(came.get(key)) is not type(wanted)):
                wrong.append(f"{where}: {key}\n  came   {came.get(key)!r}\n  wanted {wanted!r}")
        if came.keys() | {"action"} != step.keys():
            wrong.append(f"{where}: {came.keys() ^ step.keys()}")
    return wrong


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.name.removesuffix(".jsonl.gz"))
def test_replay_of_the_original(path):
    header, *episodes = read(path)
    place = shop(header["catalogue"], header["mode"] == "human")
    goals = Goals(
        place.catalog, header["mode"], seed=header["seed_before_loading"], shuffle_seed=header["shuffle_seed"]
    )
    assert len(place.products) == header["number_of_products"]
    assert {p.asin: price for p, price in zip(place.products, goals.prices, strict=True)} == header["prices"]
    assert len(goals) == header["number_of_goals"]
    for goal, weight, wanted in zip(goals, goals.weights(), header["goals"], strict=True):
        human = header["mode"] == "human"
        assert {
            "asin": goal.product.asin,
            "instruction_text": goal.instruction,
            "price_upper": goal.price_upper,
            "attributes": list(goal.attributes),
            "goal_options": list(goal.options) if human else dict(goal.options),
            "weight": weight,
        } == wanted
    controls = Controls(place, show_attributes=header["show_attrs"])
    sessions = OriginalSessions(controls, goals, random.Random())
    wrong = [line for episode in episodes for line in replay(sessions, episode)]
    assert len(wrong) == 0, f"{len(wrong)} differences, first of them:\n" + "\n".join(wrong[:5])
    assert sum(len(episode["steps"]) for episode in episodes) == STEPS[path.name[len("golden_") : -len(".jsonl.gz")]]


def test_tables_are_the_originals():
    assert list(COLORS) == json.loads((DATA / "colors.json").read_text())
    assert list(PRICE_RANGE) == json.loads((DATA / "price_range.json").read_text())
