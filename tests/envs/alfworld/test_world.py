"""Invariants of the engine, on very small games with every quirk."""

from helpers import tiny_games
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdar_envs.alfworld.world import Verb, join

relaxed = settings(deadline=None, max_examples=150, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
choices = st.lists(st.integers(0, 1000), max_size=30)


def walk(game, numbers):
    """Yield (state before, command, action, observation, state after) along a random walk."""
    state = game.initial.copy()
    for number in numbers:
        local = game.local_actions(state)
        commands = game.commands(state, local)
        command = commands[number % len(commands)]
        action = game.parse(state, command, local)
        before = state.copy()
        yield before, command, action, game.apply(state, action), state


@relaxed
@given(tiny_games.games(), choices)
def test_commands_are_sorted_unique_and_understood(game, numbers):
    for state, *_ in walk(game, numbers):
        local = game.local_actions(state)
        commands = game.commands(state, local)
        assert commands == sorted(set(commands))
        assert all(game.parse(state, command, local) is not None for command in commands)


@relaxed
@given(tiny_games.games(), choices)
def test_looking_changes_nothing_and_acting_changes_little(game, numbers):
    for before, command, action, observation, after in walk(game, numbers):
        assert observation
        assert not observation.endswith(" ")
        if action.verb < Verb.GO:
            assert before == after, command
        if action.verb is not Verb.GO:
            assert before.at == after.at
        if action.verb not in (Verb.TAKE, Verb.PUT):
            assert (before.held, before.contents) == (after.held, after.contents)
        if action.verb not in (Verb.OPEN, Verb.CLOSE):
            assert before.opened == after.opened


@relaxed
@given(tiny_games.games(), choices)
def test_objects_are_never_lost(game, numbers):
    for *_, state in walk(game, numbers):
        lying = {object_ for contents in state.contents for object_ in contents}
        assert lying | ({state.held} - {-1}) == set(range(len(game.objects)))
        assert all(list(contents) == sorted(set(contents)) for contents in state.contents)


@relaxed
@given(tiny_games.games(), choices)
def test_putting_back_undoes_taking(game, numbers):
    for before, _, action, _, after in walk(game, numbers):
        if action.verb is Verb.TAKE and game.accepts[action.object] >> action.receptacle & 1:
            state = after.copy()
            name, place = game.objects[action.object], game.receptacles[action.receptacle]
            command = game.dialect.put_command(name, place)
            game.apply(state, game.parse(state, command, game.local_actions(state)))
            assert (state.contents, state.held, state.removed) == (before.contents, -1, before.removed)


@relaxed
@given(tiny_games.games(), choices)
def test_copies_are_independent_and_the_game_is_untouched(game, numbers):
    first = game.initial.copy()
    copies = [(state.copy(), [getattr(state, name) for name in state.__slots__]) for *_, state in walk(game, numbers)]
    for state, values in copies:
        assert [getattr(state, name) for name in state.__slots__] == values
    assert game.initial == first


def test_lists_read_as_the_grammar_has_them():
    assert [join(["a"] * n) for n in range(4)] == ["nothing", "a", "a, and a", "a, a, and a"]
