import os
import random
import subprocess
import sys
import warnings
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from helpers.toy import CountingEnv, Numbers

from sdar_envs.checker import check_env, episode_digest
from sdar_envs.core import INFO_TYPES, Outcome, TextEnv, Unicode
from sdar_envs.errors import ContractViolation, SdarError, UnknownName


@pytest.fixture(autouse=True)
def _registry(monkeypatch):
    before = dict(gymnasium.registry)
    # A spec that survives JSON names its class: give this module a name to import it by.
    monkeypatch.setitem(sys.modules, "broken", sys.modules[__name__])
    gymnasium.register("toy/Counting-v0", "helpers.toy:CountingEnv")
    yield
    gymnasium.registry.clear()
    gymnasium.registry.update(before)


def registered(cls):
    gymnasium.register("toy/Broken-v0", f"broken:{cls.__name__}")
    return gymnasium.make("toy/Broken-v0", disable_env_checker=True)


# -- sound environments ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        CountingEnv,
        lambda: CountingEnv(split="train", max_steps=2, render_mode="ansi"),
        lambda: gymnasium.make("toy/Counting-v0"),
        lambda: gymnasium.make("toy/Counting-v0", split="train", max_steps=40, render_mode="ansi"),
        lambda: gymnasium.make("toy/Counting-v0", max_steps=10**6),
    ],
)
def test_sound_environments_pass(make, capsys):
    check_env(make())
    assert capsys.readouterr().out == "", "a check prints no game"


class Echo(gymnasium.Env):
    """A third-party environment: no TextEnv, no snapshots, no step limit attribute."""

    def __init__(self):
        self.observation_space = Unicode()
        self.action_space = Unicode()
        self.over = True

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        options = options or {}
        if unknown := options.keys() - {"task_id"}:
            raise ValueError(f"no option {unknown}")
        task = options.get("task_id", f"echo/{self.np_random.integers(3)}")
        if task not in {"echo/0", "echo/1", "echo/2"}:
            raise KeyError(task)
        self.task, self.count, self.over, self.success = task, 0, False, False
        return f"Say {task}.", self.info()

    def step(self, action):
        if not isinstance(action, str):
            raise TypeError("say something")
        if self.over:
            raise gymnasium.error.ResetNeeded("reset first")
        self.count += 1
        self.success = action == self.task
        truncated = self.count == 7 and not self.success
        self.over = self.success or truncated
        return action, float(self.success), self.success, truncated, self.info()

    def info(self):
        return {
            "task_id": self.task,
            "task_type": "echo",
            "instruction": f"Say {self.task}.",
            "split": "all",
            "is_success": self.success,
            "won": self.success,
            "score": float(self.success),
            "is_action_valid": True,
            "admissible_commands": [],
            "step": self.count,
        }


def test_an_environment_without_our_base_class_passes():
    check_env(Echo())


def test_a_foreign_warning_is_passed_on_and_is_no_violation():
    class Warns(CountingEnv):
        def _begin(self, task):
            warnings.warn("an old library", DeprecationWarning, stacklevel=1)
            return super()._begin(task)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(Warns())
    assert all(w.category is DeprecationWarning for w in caught)
    assert caught


# -- broken environments, one for each check --------------------------------------------------


class _Info(CountingEnv):
    """Changes info: `change(info, env)`."""

    @staticmethod
    def change(info, env):
        raise NotImplementedError

    def _info(self):
        info = super()._info()
        self.change(info, self)
        return info


def info_fault(change):
    return type("Broken", (_Info,), {"change": staticmethod(change)})


STATIC = ["always", "the", "same"]

INFO_FAULTS = {
    "a missing key": (lambda info, env: info.pop("split"), "has no 'split'"),
    "an int for a float": (lambda info, env: info.update(score=1), r"info\['score'\].*1 \(int\).*exactly float"),
    "an int for a bool": (lambda info, env: info.update(is_action_valid=1), "is_action_valid.*exactly bool"),
    "a bool for an int": (lambda info, env: info.update(step=False), "step.*exactly int"),
    "a numpy bool": (lambda info, env: info.update(won=np.bool_(False)), "won.*exactly bool"),
    "a tuple of commands": (lambda info, env: info.update(admissible_commands=("up",)), "commands.*exactly list"),
    "commands that are no text": (lambda info, env: info.update(admissible_commands=[1]), r"holds 1 \(int\)"),
    "won is not is_success": (lambda info, env: info.update(won=not info["won"]), "won=True and is_success=False"),
    "a set": (lambda info, env: info.update(seen={1}), "not JSON.*set"),
    "NaN": (lambda info, env: info.update(score=float("nan")), "not JSON"),
    "a tuple": (lambda info, env: info.update(pair=(1, 2)), r"changes on its way through JSON.*tuple"),
    "a number as key": (lambda info, env: info.update({3: "three"}), "changes on its way through JSON"),
    "a numpy float": (lambda info, env: info.update(x=np.float64(1)), r"through JSON: info\['x'\].*float64"),
    "a key at reset only": (
        lambda info, env: info.update(hint="up") if info["step"] == 0 else None,
        r"keys \['hint'\] either at reset or at step 1",
    ),
    "a type that changes": (
        lambda info, env: info.update(last=None if info["step"] == 0 else "up"),
        r"info\['last'\] is NoneType at reset and str",
    ),
    "steps counted by two": (lambda info, env: info.update(step=2 * info["step"]), "step'\\] is 2 after 1 steps"),
    "steps counted from one": (lambda info, env: info.update(step=info["step"] + 1), "step'\\] is 1 at reset"),
    "a list shared by all calls": (lambda info, env: info.update(words=STATIC), r"info\['words'\].*same object as"),
    "a dictionary in a list shared": (
        lambda info, env: info.update(tree=[env.__dict__.setdefault("node", {"x": 1})]),
        r"info\['tree'\]\[0\].*same object as",
    ),
}


@pytest.mark.parametrize("name", INFO_FAULTS)
def test_info_faults(name):
    change, message = INFO_FAULTS[name]
    with pytest.raises(ContractViolation, match=message):
        check_env(info_fault(change)())


@pytest.mark.parametrize(
    ("key", "hook"), [("task_type", "TaskSource"), ("score", "_act"), ("admissible_commands", "_commands")]
)
def test_a_missing_key_says_what_to_implement(key, hook):
    with pytest.raises(ContractViolation, match=rf"takes it from .*{hook}.*sdar_envs\.from_gym\(env\)"):
        check_env(info_fault(lambda info, env: info.pop(key))())


def test_a_missing_method_is_named():
    class Unfinished(TextEnv):
        _begin = _act = _commands = _save = _env_id = CountingEnv._begin

    with pytest.raises(TypeError, match=r"abstract.*_load"):
        Unfinished(Numbers(), split="valid", max_steps=3)


class OfAnotherSuite(CountingEnv):
    suite = "counting"


class NotText(CountingEnv):
    def _begin(self, task):
        return [super()._begin(task)]


class IntReward(CountingEnv):
    def step(self, action):
        observation, reward, *rest = super().step(action)
        return observation, int(reward), *rest


class NumpyFlag(CountingEnv):
    def step(self, action):
        observation, reward, terminated, *rest = super().step(action)
        return observation, reward, np.bool_(terminated), *rest


class FourTuple(CountingEnv):
    def step(self, action):
        return super().step(action)[:4]


class OnlyObservation(CountingEnv):
    def reset(self, **kwargs):
        return super().reset(**kwargs)[0]


class AsciiSpace(CountingEnv):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.action_space = gymnasium.spaces.Text(100)


class NoSpace(CountingEnv):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.observation_space = None


class Dice(CountingEnv):
    def _act(self, action):
        outcome = super()._act(action)
        return outcome._replace(observation=f"{outcome.observation} The dice show {random.random()}.")


class RemembersEpisodes(CountingEnv):
    episodes = 0

    def _begin(self, task):
        self.episodes += 1
        return f"{super()._begin(task)} This is episode {self.episodes}."


class InstanceNumber(CountingEnv):
    made = 0

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        InstanceNumber.made += 1
        self.number_of_instance = InstanceNumber.made

    def _begin(self, task):
        return f"{super()._begin(task)} I am number {self.number_of_instance}."


class GivesItselfAway(CountingEnv):
    """Its info is fresh at every step, but the environment goes on using it."""

    def _commands(self):
        self._allowed = super()._commands()
        return self._allowed

    def _act(self, action):
        allowed = action in self._allowed
        outcome = super()._act(action)
        return outcome if allowed else outcome._replace(observation="Not allowed.")


class SeedBeyondTask(CountingEnv):
    def _begin(self, task):
        return f"{super()._begin(task)} The weather is {self.np_random.integers(1000)}."


class MutatesOptions(CountingEnv):
    def reset(self, *, seed=None, options=None):
        result = super().reset(seed=seed, options=options)
        if options:
            options["used"] = True
        return result

    def _choose_task(self, options):
        return super()._choose_task({k: v for k, v in (options or {}).items() if k != "used"})


class AnyTask(CountingEnv):
    def _choose_task(self, options):
        try:
            return super()._choose_task(options)
        except UnknownName:
            return self.source.task(self.split, 0)


class ClumsyTask(CountingEnv):
    def _choose_task(self, options):
        try:
            return super()._choose_task(options)
        except UnknownName:
            raise AttributeError("NoneType has no attribute 'id'") from None


class AnyOption(CountingEnv):
    def _choose_task(self, options):
        return super()._choose_task({k: v for k, v in (options or {}).items() if k == "task_id"})


class Latin1(CountingEnv):
    def _act(self, action):
        action.encode("latin-1")
        return super()._act(action)


class ConvertsActions(CountingEnv):
    def step(self, action):
        return super().step(str(action))


class CountsRefusedActions(CountingEnv):
    def step(self, action):
        if not isinstance(action, str):
            self._step_count += 1
        return super().step(action)


class Endless(CountingEnv):
    def step(self, action):
        observation, reward, terminated, _, info = super().step(action)
        self._over = terminated
        return observation, reward, terminated, False, info


class TooEarly(CountingEnv):
    def step(self, action):
        observation, reward, terminated, _, info = super().step(action)
        self._over = terminated or self._step_count == 3
        return observation, reward, terminated, self._over and not terminated, info


class BothFlags(CountingEnv):
    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated or truncated, truncated, info


class StepsAfterTheEnd(CountingEnv):
    def step(self, action):
        self._over = self._task is None
        return super().step(action)


class StepsBeforeReset(CountingEnv):
    def step(self, action):
        if self._task is None:
            return "", 0.0, False, False, {}
        return super().step(action)


class CrashesBeforeReset(CountingEnv):
    def step(self, action):
        self._number  # noqa: B018
        return super().step(action)


class SavesAReference(CountingEnv):
    """The state in the snapshot is the state that goes on."""

    def _begin(self, task):
        self._cell = [0]
        observation = super()._begin(task)
        self._cell[0] = self._number
        return observation

    def _act(self, action):
        outcome = super()._act(action)
        self._cell[0] = self._number
        return outcome

    def _save(self):
        return self._cell

    def _load(self, task, state):
        self._cell = state
        self._number = state[0]


class ForgetsToLoad(CountingEnv):
    def _load(self, task, state):
        pass


class RestoresOnce(CountingEnv):
    def _save(self):
        return [self._number]

    def _load(self, task, state):
        self._number = state.pop()


class RestoresAtHome(CountingEnv):
    def _save(self):
        return (id(self), self._number)

    def _load(self, task, state):
        self._number = state[1] if state[0] == id(self) else 0


class RevivesTheDead(CountingEnv):
    def restore(self, snapshot):
        result = super().restore(snapshot)
        self._over = False
        return result


class RendersNumbers(CountingEnv):
    def render(self):
        return 5


class IgnoresRng(CountingEnv):
    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self._stream = seed
        self._stream += 1
        if not options:
            options = {"task_id": f"toy/valid/{self._stream % 30:04d}"}
        return super().reset(options=options)


FAULTS = [
    (NotText, r"observation of reset\(seed=0\).*\(list\).*wanted a str"),
    (IntReward, r"the reward of .* is 0 \(int\); wanted a finite float"),
    (NumpyFlag, r"terminated of .*(numpy\.)?bool_?\); wanted a bool"),
    (FourTuple, r"returned \(.*; wanted \(observation, reward"),
    (OnlyObservation, r"wanted \(observation, info\)"),
    (AsciiSpace, r"env\.action_space .* does not contain .*sdar_envs\.Unicode"),
    (NoSpace, r"env\.observation_space is None"),
    (Dice, r"two episodes of seed 0 .* differ at answer 1: observation"),
    (RemembersEpisodes, r"two episodes of seed 0 .* differ at answer 0: observation"),
    (GivesItselfAway, r"infos the caller empties differ .*new lists"),
    (SeedBeyondTask, r"that of its task id 'toy/valid/\d+' differ"),
    (MutatesOptions, r"reset changed the caller's options"),
    (AnyTask, r"no-such-task.* raised nothing; wanted a LookupError"),
    (ClumsyTask, r"raised AttributeError.*wanted a LookupError"),
    (AnyOption, r"no_such_option.* raised nothing"),
    (Latin1, r"step\(.*\) raised UnicodeEncodeError.*answered in words"),
    (ConvertsActions, r"step\(None\) raised nothing; wanted a TypeError"),
    (CountsRefusedActions, r"is 5 after refused actions"),
    (Endless, r"goes on after 8 useless actions"),
    (TooEarly, r"truncated is True at step 3; wanted max_steps, which is 8"),
    (BothFlags, r"terminated and truncated are both True"),
    (StepsAfterTheEnd, r"after the episode's end raised nothing; wanted a RuntimeError"),
    (SavesAReference, r"restore\(snapshot\) differ"),
    (ForgetsToLoad, r"restore\(snapshot\) differ"),
    (RestoresOnce, r"restore\(snapshot\) raised IndexError"),
    (RevivesTheDead, r"after restore\(\) of a finished episode raised nothing"),
    (lambda: RendersNumbers(render_mode="ansi"), r"gymnasium.* warned: ANSI/ASCII rendering"),
    (OfAnotherSuite, r"suite is 'counting' and the suite of task 'toy/valid/\d+' is 'toy'"),
    (IgnoresRng, r"gymnasium.* raised AssertionError"),
]


@pytest.mark.parametrize(("make", "message"), FAULTS, ids=[getattr(f[0], "__name__", "?") for f in FAULTS])
def test_faults(make, message):
    with pytest.raises(ContractViolation, match=message) as caught:
        check_env(make())
    assert "; wanted " in str(caught.value)
    assert " See " in str(caught.value)


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (StepsBeforeReset, r"step\(\) before the first reset\(\) raised nothing"),
        (CrashesBeforeReset, r"before the first reset\(\) raised AttributeError"),
        (InstanceNumber, r"two instances, seed 0, the same actions differ at answer 0"),
        (RestoresAtHome, r"restored in another instance differ"),
    ],
)
def test_faults_that_only_a_second_instance_shows(cls, message):
    with pytest.raises(ContractViolation, match=message):
        check_env(registered(cls))


class Hooked(CountingEnv):
    def __init__(self, hook=None, **kwargs):
        super().__init__(**kwargs)


def test_a_spec_with_a_function_in_it():
    gymnasium.register("toy/Hooked-v0", "broken:Hooked")
    with pytest.raises(ContractViolation, match=r"env\.spec\.to_json\(\) raised .*JSON values"):
        check_env(gymnasium.make("toy/Hooked-v0", hook=print, disable_env_checker=True))


def test_what_is_no_environment():
    with pytest.raises(ContractViolation, match=r"check_env got 3 \(int\); wanted a gymnasium\.Env"):
        check_env(3)


def test_a_violation_is_an_assertion_and_ours():
    assert issubclass(ContractViolation, AssertionError)
    assert issubclass(ContractViolation, SdarError)


def test_rendering_can_be_left_out():
    check_env(RendersNumbers(render_mode="ansi"), skip_render_check=True)


# -- digests --------------------------------------------------------------------------------


def test_digest_depends_on_seed_and_actions_only():
    digest = episode_digest(CountingEnv(), 3, ["up", "down"])
    assert digest == episode_digest("toy/Counting-v0", 3, ["up", "down"])
    assert digest != episode_digest("toy/Counting-v0", 3, ["up", "up"])
    assert digest != episode_digest("toy/Counting-v0", 4, ["up", "down"])


def test_digest_stops_at_the_end():
    env = CountingEnv(max_steps=2)
    assert episode_digest(env, 3, ["x"] * 2) == episode_digest(env, 3, ["x"] * 9)


def test_digest_is_the_same_in_processes_with_other_hash_seeds():
    code = (
        "from helpers import toy; from sdar_envs.checker import episode_digest\n"
        "print(episode_digest(toy.CountingEnv(), 5, ['up', '\\ud800', 'double']))"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[1])},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("0", "1")
    }
    assert digests == {episode_digest(CountingEnv(), 5, ["up", "\ud800", "double"])}


def test_the_toy_source_finds_what_it_gives():
    source = Numbers()
    assert source.find("toy/train/12345678") == source.task("train", 12345678)
    assert set(INFO_TYPES) < set(CountingEnv().reset(seed=0)[1])
    assert Outcome._fields[:5] == ("observation", "score", "terminated", "is_success", "is_action_valid")
