"""Official data: finding it, indexing it, refusing what is wrong with it. Uses exported games as data."""

import json
import os
import re
import shutil
import warnings
from pathlib import Path

import gymnasium
import pytest
from helpers.official_domains import without_sink_type

import sdar_envs
from sdar_envs.alfworld import official
from sdar_envs.alfworld.export import export_game
from sdar_envs.alfworld.official import OfficialGames, data_folder, load_game
from sdar_envs.alfworld.oracle import plan
from sdar_envs.alfworld.problem import TASK_TYPES
from sdar_envs.alfworld.wording import Dialect
from sdar_envs.errors import (
    CorruptData,
    InvalidOption,
    MissingData,
    SdarError,
    UnknownName,
    UnsolvableGame,
    UnsupportedGame,
)

PANEL = [("valid_seen", 0), ("valid_seen", 1), ("valid_seen", 2), ("valid_unseen", 0), ("valid_unseen", 1)]


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A data folder with a few games, as alfworld-download leaves it, and a cache of its own."""
    monkeypatch.setenv("SDAR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path / "data"))
    for split, index in PANEL:
        export_game(split, index, tmp_path / "data" / "json_2.1.1", wording="put")
    return tmp_path / "data" / "json_2.1.1"


def make(**arguments):
    return gymnasium.make("sdar/ALFWorld-v0", **arguments).unwrapped


def change(path, **fields):
    content = json.loads(path.read_text()) | fields
    path.write_text(json.dumps(content))


def unmark(path):
    content = json.loads(path.read_text())
    del content["solvable"]
    path.write_text(json.dumps(content))


def cut_off(path):
    """Take the receptacles' places away, so that nothing can be reached."""
    content = json.loads(path.read_text())
    lines = [line for line in content["pddl_problem"].splitlines() if not line.startswith("(receptacleatlocation")]
    change(path, pddl_problem="\n".join(lines))


def games_of(data, split="valid_seen"):
    return sorted((data / split).glob("*/*/game.tw-pddl"))


def test_tasks_are_sorted_by_path_and_play(data):
    tasks = sdar_envs.tasks("sdar/ALFWorld-v0", split="valid_seen", data="official")
    assert [task.data["gamefile"] for task in tasks] == [str(path) for path in games_of(data)]
    env = make(data="official", split="valid_seen")
    for task in tasks:
        _, info = env.reset(options={"task_id": task.id})
        assert (info["gamefile"], info["task_type"]) == (task.data["gamefile"], task.task_type)
        assert (info["instruction"], info["split"]) == (task.instruction, "valid_seen")
        for command in env.oracle_plan():
            _, reward, terminated, _, info = env.step(command)
        assert reward == 1.0
        assert terminated
        assert info["won"]


def test_exported_game_is_the_embedded_game_in_the_other_wording(data):
    (task,) = sdar_envs.tasks("sdar/ALFWorld-v0", split="valid_unseen", limit=1)
    embedded = make(split="valid_unseen", wording="put")
    observation, _ = embedded.reset(options={"task_id": task.id})
    observations = set()
    for path in games_of(data, "valid_unseen"):
        observations.add(load_game(path).first_observation)
    assert observation in observations


@pytest.mark.parametrize("data_dir", ["data", "data/json_2.1.1"])
def test_data_dir_may_be_the_release_or_the_folder_above(data, tmp_path, data_dir):
    assert data_folder(str(tmp_path / data_dir)) == data


@pytest.mark.parametrize("spelling", ["$ALFWORLD_DATA/json_2.1.1", "${ALFWORLD_DATA}/json_2.1.1", "$ALFWORLD_DATA"])
def test_data_dir_may_name_variables_and_be_a_path(data, spelling):
    for data_dir in (spelling, Path(spelling)):
        assert make(data="official", split="valid_seen", data_dir=data_dir).source.root == data


@pytest.mark.parametrize("data_dir", ["$NOT_SET_ANYWHERE/json_2.1.1", b"bytes", 7])
def test_data_dir_that_names_nothing_is_refused_in_one_line(data, data_dir):
    with pytest.raises(
        SdarError, match=r"NOT_SET_ANYWHERE\} is not set|NOT_SET_ANYWHERE is not set|wanted str or Path"
    ):
        make(data="official", split="valid_seen", data_dir=data_dir)


def test_paths_that_are_not_utf_8(data, tmp_path):
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    shutil.copytree(data, odd)
    for _ in range(2):
        env = make(data="official", split="valid_seen", data_dir=odd)
        _, info = env.reset(seed=0)
        assert info["gamefile"].startswith(odd)
        assert env.step("look")[0].startswith("You are in the middle of a room.")


def test_the_originals_names_of_splits(data):
    for name, meant in (("eval_in_distribution", "valid_seen"), ("eval_out_of_distribution", "valid_unseen")):
        for kind in ("official", "embedded"):
            env = make(data=kind, split=name)
            assert env.split == meant
            tasks = sdar_envs.tasks("sdar/ALFWorld-v0", split=name, data=kind, limit=2)
            assert {task.split for task in tasks} == {meant}
            assert next(sdar_envs.iter_tasks("sdar/ALFWorld-v0", split=name, data=kind)) == tasks[0]
            assert env.reset(seed=1)[1] == make(data=kind, split=meant).reset(seed=1)[1]


@pytest.mark.parametrize("arguments", [{"rooms": "full"}, {"rooms": "small"}, {"data": "official"}])
def test_textworlds_name_of_the_game_file_tells_the_task_type(data, arguments):
    env = make(split="valid_seen", **arguments)
    for seed in range(12):
        _, at_reset = env.reset(seed=seed)
        saved = env.snapshot()
        for info in (at_reset, env.step("look")[4], env.restore(saved)[1]):
            path = info["extra.gamefile"]
            assert [name for name in TASK_TYPES if name in path] == [info["task_type"]]
            assert re.search(r"valid_seen/\w+-\w+-None-\w+-[\w-]+/trial_\w+/game\.tw-pddl$", path)
            assert info["gamefile"] in ("", path)


def test_the_latest_release_with_games_is_taken(data):
    for name in ("json_2.1.2", "json_2.1.10"):
        shutil.copytree(data, data.parent / name)
    (data.parent / "json_9.9.9").mkdir()
    (data.parent / "json_backup_20991231").mkdir()
    empty = shutil.copytree(data, data.parent / "json_3.0")
    for path in empty.rglob("game.tw-pddl"):
        path.unlink()
    assert data_folder() == data.parent / "json_2.1.10"


def test_index_notices_changed_added_and_removed_games(data, monkeypatch):
    read = []
    original = official._read_json
    monkeypatch.setattr(official, "_read_json", lambda path: read.append(path) or original(path))
    assert OfficialGames(data).splits == {"valid_seen": 3, "valid_unseen": 2}
    assert len(read) == 5
    OfficialGames(data)
    assert len(read) == 5, "an unchanged folder is not read again"
    changed, removed, *_ = games_of(data)
    change(changed, solvable=False)
    os.utime(changed, ns=(1, 1))
    shutil.rmtree(removed.parent)
    assert OfficialGames(data).splits == {"valid_seen": 1, "valid_unseen": 2}
    assert len(read) == 6, "only the changed file is read again"


@pytest.mark.parametrize("solvable", [False, None, 0])
def test_games_not_marked_solvable_count_only_if_any_may(data, solvable):
    change(games_of(data)[0], solvable=solvable)
    unmark(games_of(data)[1])
    assert OfficialGames(data).splits["valid_seen"] == 1
    assert OfficialGames(data, solvable="any").splits["valid_seen"] == 3
    env = make(data="official", split="valid_seen", solvable="any")
    env.reset(options={"task_id": env.source.task("valid_seen", 0).id})
    for command in env.oracle_plan():
        *_, info = env.step(command)
    assert info["won"]
    assert OfficialGames(data).splits["valid_seen"] == 1, "the index remembers both"


@pytest.mark.parametrize("solvable", [True, 1, "true"])
def test_a_flag_is_read_as_the_original_reads_it(data, solvable):
    change(games_of(data)[0], solvable=solvable)
    assert OfficialGames(data).splits["valid_seen"] == 3


def test_games_that_no_plan_wins_are_left_out_with_their_reason_if_any_may_count(data):
    first, second, _ = games_of(data)
    for path in (first, second):
        change(path, solvable=False)
    cut_off(first)
    second.write_text(json.dumps(json.loads(second.read_text()) | {"pddl_problem": "(:goal"}))
    for _ in range(2):
        games = OfficialGames(data, solvable="any")
        assert games.splits["valid_seen"] == 1
        reasons = {str(data / path / "game.tw-pddl"): reason for path, reason in games.left_out.items()}
        assert "no plan reaches the goal" in reasons[str(first)]
        assert "the file is damaged" in reasons[str(second)]


def test_traj_data_is_not_needed(data):
    for path in data.rglob("traj_data.json"):
        path.unlink()
    assert OfficialGames(data).splits == {"valid_seen": 3, "valid_unseen": 2}


def test_games_of_other_tasks_do_not_count(data):
    folder = games_of(data)[1].parent.parent
    folder.rename(data / "valid_seen" / "pick_and_place_with_movable_recep-Egg-Bowl-Fridge-1")
    assert OfficialGames(data).splits["valid_seen"] == 2


def test_a_broken_cache_is_made_again(data, tmp_path):
    OfficialGames(data)
    (cache,) = (tmp_path / "cache").rglob("*.json")
    sound = cache.read_text()
    odd = [sound.replace('"size"', '"length"'), sound.replace("true", '"yes"'), '{"format": 1, "games": []}']
    for content in ("", "{", '{"format": 0}', "[]", *odd):
        cache.write_text(content)
        assert OfficialGames(data).splits == {"valid_seen": 3, "valid_unseen": 2}
        assert json.loads(cache.read_text())["format"] == official._INDEX_FORMAT


def test_a_cache_that_cannot_be_written_is_said_and_does_not_stop_the_game(data, tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("SDAR_CACHE_DIR", str(blocked))
    with pytest.warns(UserWarning, match="could not be cached"):
        assert OfficialGames(data).splits == {"valid_seen": 3, "valid_unseen": 2}


def test_missing_and_empty_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("SDAR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(MissingData, match=r"nowhere.*ALFWORLD_DATA.*alfworld-download"):
        sdar_envs.tasks("sdar/ALFWorld-v0", split="valid_seen", data="official")
    with pytest.raises(MissingData, match=r"json_2\.1"):
        sdar_envs.tasks("sdar/ALFWorld-v0", split="valid_seen", data="official", data_dir=str(tmp_path))
    (tmp_path / "json_2.1.1" / "valid_seen").mkdir(parents=True)
    with pytest.raises(MissingData, match="holds no solvable game"):
        sdar_envs.tasks("sdar/ALFWorld-v0", split="valid_seen", data="official", data_dir=str(tmp_path))


@pytest.mark.parametrize("arguments", [{"data_dir": "/nowhere"}, {"solvable": "any"}, {"on_bad_file": "skip"}])
def test_arguments_of_official_data_are_refused_without_it(arguments):
    with pytest.raises(InvalidOption, match=r"embedded games have no files: pass data='official' too"):
        sdar_envs.tasks("sdar/ALFWorld-v0", split="valid_seen", **arguments)


@pytest.mark.parametrize("arguments", [{"solvable": "flags"}, {"on_bad_file": "rais"}])
def test_settings_of_official_data_have_names(arguments):
    with pytest.raises(InvalidOption, match="Did you mean"):
        make(data="official", split="valid_seen", **arguments)


def test_unknown_task_and_split_suggest_the_nearest(data):
    games = OfficialGames(data)
    task = games.task("valid_seen", 0)
    with pytest.raises(UnknownName, match=f"Did you mean '{task.id}'"):
        games.find(task.id[:-2])
    with pytest.raises(UnknownName, match="Did you mean 'valid_seen'"):
        games.task("valid_sen", 0)
    with pytest.raises(UnknownName, match="3 tasks"):
        games.task("valid_seen", 3)


def test_truncated_game_file(data):
    path = games_of(data)[0]
    path.write_text(path.read_text()[:1000])
    for _ in range(2):
        with pytest.raises(CorruptData, match=r"game\.tw-pddl.*download it again.*on_bad_file='skip'"):
            OfficialGames(data)
    with pytest.raises(CorruptData, match="download it again"):
        load_game(path)


@pytest.mark.parametrize("content", ["{}", '{"pddl_domain": 1, "grammar": "", "pddl_problem": ""}'])
def test_json_that_is_no_game(data, content):
    path = games_of(data)[0]
    path.write_text(content)
    with pytest.raises(CorruptData, match="wanted an object with the texts"):
        load_game(path)


@pytest.mark.parametrize("content", ["[]", "[" * 100_000, "\0", "nul"])
def test_what_is_no_json_object(data, content):
    path = games_of(data)[0]
    path.write_text(content)
    with pytest.raises(CorruptData, match=r"game\.tw-pddl"):
        load_game(path)
    with pytest.raises(CorruptData, match=r"game\.tw-pddl"):
        OfficialGames(data)


@pytest.mark.parametrize(
    ("sentence", "error"),
    [
        ('"a {mug}"', UnsupportedGame),
        ('"a \\"mug\\""', UnsupportedGame),
        ('"#x#"', UnsupportedGame),
        ('"\\q"', CorruptData),
        ("", (CorruptData, UnsupportedGame)),
    ],
)
def test_task_sentences_that_cannot_be_said_name_their_file(data, sentence, error):
    path = games_of(data)[0]
    content = json.loads(path.read_text())
    start = content["grammar"].index('"Your task is to')
    end = content["grammar"].index('"', start + 1) + 1
    change(path, grammar=content["grammar"][:start] + sentence + content["grammar"][end:])
    for use in (lambda: OfficialGames(data), lambda: load_game(path)):
        with pytest.raises(error, match=r"game\.tw-pddl: "):
            use()


def test_a_sentence_ends_where_the_original_ends_it(data):
    path = games_of(data)[0]
    content = json.loads(path.read_text())
    grammar = content["grammar"].replace('"Your task is to: ', '"Your task is to: wait | see; ')
    change(path, grammar=grammar)
    assert load_game(path).first_observation.endswith("\n\nYour task is to: wait ")
    assert load_game(path).instruction == "wait"


def test_a_game_that_is_not_solvable_need_not_be_sound(data):
    games_of(data)[0].write_text('{"solvable": false}')
    assert OfficialGames(data).splits["valid_seen"] == 2


def test_a_changed_file_is_loaded_again(data):
    path = games_of(data)[0]
    before = load_game(path)
    content = json.loads(path.read_text())
    change(path, grammar=content["grammar"].replace("Your task is to: ", "Your task is to: please "))
    assert load_game(path).instruction == f"please {before.instruction}"


def test_size_alone_tells_that_a_game_changed(data):
    path = games_of(data)[0]
    OfficialGames(data)
    times = path.stat()
    content = json.loads(path.read_text())
    change(path, grammar=content["grammar"].replace("Your task is to: ", "Your task is to: please "))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert OfficialGames(data).task("valid_seen", 0).instruction.startswith("please ")


@pytest.mark.parametrize("mark", ["movable", "Sliced"])
def test_folders_that_the_original_passes_over(data, mark):
    folder = games_of(data)[0].parent.parent
    folder.rename(folder.with_name(folder.name.replace("-None-", f"-{mark}-")))
    assert OfficialGames(data).splits["valid_seen"] == 2


def test_tasks_name_their_files_wherever_the_process_goes(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    env = make(data="official", split="valid_seen", data_dir="data")
    task = env.source.task("valid_seen", 0)
    monkeypatch.chdir(tmp_path.parent)
    _, info = env.reset(options={"task_id": task.id})
    assert os.path.isabs(info["gamefile"])


def test_snapshots_stay_with_their_data(data):
    official_env = make(data="official", split="valid_seen", wording="move")
    embedded_env = make(split="valid_seen")
    official_env.reset(seed=0)
    embedded_env.reset(seed=0)
    for env, other in ((official_env, embedded_env), (embedded_env, official_env)):
        saved, task = other.snapshot(), env.task
        with pytest.raises(InvalidOption, match="not in the data"):
            env.restore(saved)
        assert env.task == task
        assert env.step("look")[4]["task_id"] == task.id
    with pytest.raises(InvalidOption, match="variant 'move'"):
        make(split="valid_seen", wording="put").restore(embedded_env.snapshot())


def edit_problem(path, old, new):
    content = json.loads(path.read_text())
    assert old in content["pddl_problem"]
    change(path, pddl_problem=content["pddl_problem"].replace(old, new))


def test_goal_that_nothing_reaches(data):
    path = games_of(data)[0]
    cut_off(path)
    with pytest.raises(UnsolvableGame, match="no plan reaches the goal"):
        load_game(path)


def test_unknown_rules_and_words_are_refused(data):
    path = games_of(data)[0]
    content = json.loads(path.read_text())
    change(path, pddl_domain=content["pddl_domain"].replace("(not (holdsany ?a))", ""))
    with pytest.raises(UnsupportedGame, match="unknown domain"):
        load_game(path)
    change(path, pddl_domain=content["pddl_domain"], grammar=content["grammar"].replace("You arrive", "You came"))
    with pytest.raises(UnsupportedGame, match="unknown grammar"):
        load_game(path)


def test_unknown_facts_and_goals_are_refused(data):
    first, second, third = games_of(data)
    edit_problem(first, "(:init", "(:init\n(issliced apple_bar_1)")
    with pytest.raises(UnsupportedGame, match="issliced"):
        load_game(first)
    edit_problem(second, "(:goal (and", "(:goal (and (forall (?r - receptacle) (not (opened ?r)))")
    with pytest.raises(UnsupportedGame, match="none of the six"):
        load_game(second)
    edit_problem(third, "(:goal", "(:gaol")
    with pytest.raises(CorruptData, match=":goal"):
        load_game(third)


def spoil(path, how):
    """Make a game that is called solvable unplayable."""
    content = json.loads(path.read_text())
    if how == "truncated":
        path.write_text(path.read_text()[:1000])
    elif how == "domain":
        change(path, pddl_domain=content["pddl_domain"].replace("(not (holdsany ?a))", ""))
    elif how == "goal":
        edit_problem(path, "(:goal (and", "(:goal (and (forall (?r - receptacle) (not (opened ?r)))")
    elif how == "unsolvable":
        cut_off(path)
    else:
        path.unlink()
        path.mkdir()


BAD = {
    "truncated": (CorruptData, "not sound JSON"),
    "domain": (UnsupportedGame, "unknown domain"),
    "goal": (UnsupportedGame, "none of the six"),
    "unsolvable": (UnsolvableGame, "no plan reaches the goal"),
    "folder": (CorruptData, "cannot be read"),
}


@pytest.mark.parametrize("how", BAD)
def test_what_cannot_be_played_is_said_when_indexing_by_file(data, how):
    path = games_of(data)[1]
    spoil(path, how)
    error, reason = BAD[how]
    for _ in range(2):
        with pytest.raises(error, match=f"{re.escape(str(path))}.*{reason}.*1 game file cannot be played"):
            make(data="official", split="valid_unseen")
        with pytest.warns(UserWarning, match=f"{re.escape(str(path))}.*{reason}.*left out for this: 1"):
            games = OfficialGames(data, on_bad_file="skip")
        assert games.splits == {"valid_seen": 2, "valid_unseen": 2}
        (left_out,) = games.left_out.items()
        assert str(data / left_out[0] / "game.tw-pddl") == str(path)
        assert re.search(reason, left_out[1])


def test_many_bad_files_are_counted_in_one_line(data):
    for path in data.rglob("game.tw-pddl"):
        path.write_text("{")
    with pytest.raises(CorruptData, match=r"5 game files cannot be played") as raised:
        OfficialGames(data)
    assert "\n" not in str(raised.value)


def test_a_mended_file_counts_again(data):
    path = games_of(data)[0]
    sound, times = path.read_bytes(), path.stat()
    path.write_bytes(b" " * len(sound))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.warns(UserWarning, match="left out"):
        OfficialGames(data, on_bad_file="skip")
    path.write_bytes(sound)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert OfficialGames(data, on_bad_file="skip").splits["valid_seen"] == 3


@pytest.mark.data
def test_the_domain_without_sink_type_plays_as_published(tmp_path):
    """That of valid_train, AgentBench and ETO: release 2.1.1's, but a sink does not wash."""
    path = next(path for path in sorted(data_folder().rglob("game.tw-pddl")) if "pick_clean" in str(path))
    content = json.loads(path.read_text())
    content["pddl_domain"] = without_sink_type(content["pddl_domain"])
    changed = tmp_path / "game.tw-pddl"
    changed.write_text(json.dumps(content))
    for wording in (None, "put"):
        game = load_game(changed, wording)
        assert game.dialect == Dialect("put", frozenset({"sinkbasintype"}))
        assert plan(game, game.initial) == plan(load_game(path), load_game(path).initial)
    assert load_game(changed, "move").dialect == load_game(path, "move").dialect


@pytest.mark.data
def test_official_sample_loads_and_the_oracle_wins():
    folder = data_folder()
    games = OfficialGames(folder)
    assert sum(size or 0 for size in games.splits.values()) > 0
    env = make(data="official", split="valid_seen")
    for split, size in games.splits.items():
        for index in range(size or 0):
            env.reset(options={"task_id": games.task(split, index).id})
            for command in env.oracle_plan():
                *_, info = env.step(command)
            assert info["won"], info["task_id"]
