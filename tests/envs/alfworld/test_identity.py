"""The engine against the real TextWorld: every observation, score, flag and admissible list.

`SDAR_IDENTITY_STEPS` sets the number of steps per test (default 300: a share for CI).
"""

import json
import os
from pathlib import Path

import pytest
from helpers import tiny_games
from helpers.official_domains import without_sink_type
from helpers.transcripts import first_difference, game_file, play, replay_in_textworld
from hypothesis import HealthCheck, given, settings

from sdar_envs.alfworld.generator import generate
from sdar_envs.alfworld.official import data_folder, load_game
from sdar_envs.alfworld.oracle import plan
from sdar_envs.alfworld.wording import DIALECTS, read_dialect
from sdar_envs.alfworld.world import Game

pytestmark = pytest.mark.peer

STEPS = int(os.environ.get("SDAR_IDENTITY_STEPS", "300"))
PER_GAME = 30


def compare(games_and_files, directory):
    jobs, ours = [], []
    for seed, (game, content) in enumerate(games_and_files):
        commands, records = play(game, seed, PER_GAME)
        jobs.append((content, commands))
        ours.append(records)
    theirs, _ = replay_in_textworld(jobs, directory)
    differences = [first_difference(mine, real) for mine, real in zip(ours, theirs, strict=True)]
    assert [d for d in differences if d] == []
    assert sum(len(commands) for _, commands in jobs) >= STEPS


@pytest.mark.parametrize("wording", ["move", "put"])
def test_embedded_games(wording, tmp_path):
    games = []
    for number in range(-(-STEPS // PER_GAME)):
        split, index = ("valid_unseen", number // 2) if number % 2 else ("train", number)
        made = generate(split, index)
        game = Game(made.problem, made.task_sentence, DIALECTS[wording])
        games.append((game, game_file(game)))
    compare(games, tmp_path)


def test_embedded_games_with_the_released_domain_and_grammar(tmp_path):
    """Our own domain and grammar stand for the released ones: the same games play alike under both."""
    from alfworld.info import ALFRED_PDDL_PATH, ALFRED_TWL2_PATH

    domain, grammar = Path(ALFRED_PDDL_PATH).read_text(), Path(ALFRED_TWL2_PATH).read_text()
    assert read_dialect(domain, grammar) == DIALECTS["move"]
    games = []
    for number in range(-(-STEPS // PER_GAME)):
        made = generate("valid_seen", number)
        game = Game(made.problem, made.task_sentence, DIALECTS["move"])
        task = game.instruction.removesuffix(".")
        games.append((game, game_file(game, domain, grammar.replace("UNKNOWN GOAL", task))))
    compare(games, tmp_path)


def test_tiny_games_with_every_quirk(tmp_path):
    games = []
    # TextWorld cannot load what cannot be won, and cannot start what is won.
    for wording in ("move", "put"):

        @settings(max_examples=STEPS // 3, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(tiny_games.games(wording))
        def collect(game):
            if plan(game, game.initial):
                games.append((game, game_file(game)))

        collect()
    compare(games[: -(-STEPS // PER_GAME) * 2], tmp_path)


@pytest.mark.data
@pytest.mark.parametrize("wording", ["put", "move"])
def test_official_games(wording, tmp_path):
    """As shipped (2.1.1), and re-dressed with the domain and grammar of the installed alfworld."""
    from alfworld.info import ALFRED_PDDL_PATH, ALFRED_TWL2_PATH

    paths = sorted(data_folder().glob("*/*/*/game.tw-pddl"))
    games = []
    for number in range(-(-STEPS // PER_GAME)):
        path = paths[number % len(paths)]
        content = json.loads(path.read_text())
        game = load_game(path, wording)
        if wording == "move":
            content["pddl_domain"] = Path(ALFRED_PDDL_PATH).read_text()
            task = game.instruction.removesuffix(".")
            content["grammar"] = Path(ALFRED_TWL2_PATH).read_text().replace("UNKNOWN GOAL", task)
        games.append((game, content))
    compare(games, tmp_path)


@pytest.mark.data
def test_official_games_with_the_domain_without_sink_type(tmp_path):
    """The domain of valid_train, AgentBench and ETO: that of 2.1.1, but only basins wash."""
    paths = [path for path in sorted(data_folder().glob("*/*/*/game.tw-pddl")) if "clean" in str(path)]
    paths += [path for path in sorted(data_folder().glob("*/*/*/game.tw-pddl")) if "clean" not in str(path)]
    games = []
    for number in range(-(-STEPS // PER_GAME)):
        content = json.loads(paths[number % len(paths)].read_text())
        content["pddl_domain"] = without_sink_type(content["pddl_domain"])
        file = tmp_path / f"{number}.tw-pddl"
        file.write_text(json.dumps(content))
        games.append((load_game(file), content))
    compare(games, tmp_path)
