from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from sdar_agents.configs import recipe_names
from sdar_agents.settings.reader import parse_overrides, read_yaml, to_plain
from sdar_agents.training.config import TrainConfig, changed_settings, config_names, load_config, make_config
from sdar_benchmarks.cli.main import main
from sdar_envs.errors import CorruptData, InvalidOption, MissingData, UnknownName

LEAST: dict[str, Any] = {"model": {"path": "m"}, "rollout": {"env_id": "sdar/ALFWorld-v0"}}


def with_overrides(*arguments: str, **settings: Any) -> TrainConfig:
    return make_config({**LEAST, **settings}, parse_overrides(arguments))


@pytest.mark.parametrize("name", config_names())
def test_the_configurations_of_this_package_can_be_read(name: str) -> None:
    config = load_config(name)
    assert config.make_algorithm()
    for method in ("grpo", "sdar", "rlsd", "skill_grpo"):
        assert load_config(name, ["--method", method]).method == method


@pytest.mark.parametrize("name", config_names())
def test_a_resolved_configuration_reads_back_as_itself(name: str, tmp_path: Path) -> None:
    config = load_config(name).resolved()
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml())
    assert load_config(str(path)) == config
    assert config.resolved() == config
    smoke = name == "search_qa_smollm2_smoke"
    assert config.algorithm["kl_coef"] in ((0.0,) if smoke else (0.01, 0.001))


def test_presets_are_the_methods() -> None:
    assert with_overrides("--preset", "paper").make_algorithm().entropy_coef == 0.001
    assert with_overrides().make_algorithm().entropy_coef == 0.0
    search = {**LEAST, "rollout": {"env_id": "sdar/SearchQA-v0"}}
    assert make_config(search).make_algorithm().kl_coef == 0.001


def test_the_longest_response_is_the_rollouts() -> None:
    mode = "--algorithm.aggregation=seq-mean-token-sum-norm"
    assert with_overrides(mode, "--rollout.max_new_tokens=77").make_algorithm().response_limit == 77
    assert with_overrides(mode, "--algorithm.response_limit=9").make_algorithm().response_limit == 9


def test_settings_of_methods_count_for_their_method_alone() -> None:
    methods = {"sdar": {"beta": 7.0}, "rlsd": {"shaping_coef": 0.3}}
    assert with_overrides(methods=methods).resolved().algorithm["beta"] == 7.0
    assert with_overrides("--method=grpo", methods=methods).resolved().algorithm["kl_coef"] == 0.01
    assert with_overrides("--algorithm.beta=9", methods=methods).resolved().algorithm["beta"] == 9
    with pytest.raises(UnknownName, match="GRPO has no setting 'beta'"):
        with_overrides("--method=grpo", "--algorithm.beta=9")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-6", 3e-6),
        ("1e5", 1e5),
        ("-.5E+2", -50.0),
        ("010", 10),
        ("1_000", "1_000"),
        ("yes", "yes"),
        ("off", "off"),
        ("true", True),
        ("null", None),
        ("1:30", "1:30"),
        (".inf", float("inf")),
        ("-7", -7),
        ("1.", 1.0),
    ],
)
def test_numbers_and_words_are_what_they_look_like(text: str, value: object) -> None:
    read = read_yaml(f"a: {text}", "here")["a"]
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize("arguments", [["--learner.lr", "3e-6"], ["--learner.lr=3e-6"]])
def test_the_command_line_has_the_last_word(arguments: list[str]) -> None:
    assert with_overrides(*arguments, learner={"lr": 1}).learner.lr == 3e-6
    assert with_overrides(learner={"lr": 1}).learner.lr == 1.0


def test_text_on_the_command_line_stays_text() -> None:
    assert with_overrides("--model.path", "0017").model.path == "0017"
    assert with_overrides("--model.device", "null").model.device is None
    assert with_overrides("--rollout.stop", "['</action>']").rollout.stop == ("</action>",)
    assert with_overrides("--model.lora.rank", "4").model.lora is not None
    assert with_overrides("--model.lora", "null").model.lora is None
    assert with_overrides("--rollout.env_kwargs.max_steps", "7").rollout.env_kwargs == {"max_steps": 7}
    assert with_overrides("--tasks-per-step", "3").tasks_per_step == 3


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"lerner": {}}, UnknownName, r"no setting 'lerner'.*Did you mean 'learner'"),
        ({"learner": {"lrr": 1}}, UnknownName, r"no setting 'learner.lrr'.*Did you mean 'lr'"),
        ({"rollout": {"env_id": "x", "temprature": 1}}, UnknownName, r"Did you mean 'temperature'"),
        ({"learner": {"lr": "3e-6"}}, InvalidOption, r"learner.lr is '3e-6'; wanted a number"),
        ({"learner": {"lr": -1}}, InvalidOption, r"lr is -1.0; wanted a number of at least 0"),
        ({"learner": {"mini_batches": 1.5}}, InvalidOption, r"mini_batches is 1.5; wanted a whole number"),
        ({"learner": {"mini_batches": True}}, InvalidOption, r"mini_batches is True"),
        ({"learner": {"autocast": "yes"}}, InvalidOption, r"autocast is 'yes'; wanted true or false"),
        ({"learner": {"teacher": "odl"}}, InvalidOption, r"wanted one of old, live.*Did you mean 'old'"),
        ({"learner": {"lr": float("nan")}}, InvalidOption, r"lr is nan"),
        ({"learner": []}, InvalidOption, r"learner is \[\]; wanted a section"),
        ({"rollout": {}}, InvalidOption, r"rollout.env_id is not given"),
        ({"rollout": {"env_id": 7}}, InvalidOption, r"rollout.env_id is 7; wanted text"),
        ({"rollout": {"env_id": "x", "greedy": True}}, InvalidOption, r"all members of a group would do the same"),
        ({"method": "sdra"}, UnknownName, r"^method: .*Did you mean 'sdar'"),
        ({"methods": {"sdra": {}}}, UnknownName, r"Did you mean 'sdar'"),
        ({"methods": {"rlsd": {"beta": 1}}}, UnknownName, r"^methods\.rlsd: RLSD has no setting 'beta'"),
        ({"methods": {"sdar": 1}}, InvalidOption, r"methods.sdar is 1"),
        ({"preset": "papers"}, InvalidOption, r"Did you mean 'paper'"),
        ({"skills": {"control_members": 8}}, InvalidOption, r"control_members is 8 in groups of 8"),
        ({"evaluation": {"greedy": False}}, InvalidOption, r"leaves out: set it to eval/sampled/success"),
        ({"evaluation": {"temperature": 0}}, InvalidOption, r"^evaluation\.temperature is 0.*set sampled to false"),
        (
            {"rollout": {"env_id": "x", "reward": "3"}},
            InvalidOption,
            r"^rollout\.reward is '3'; wanted module",
        ),
        ({"learner": {"beta2": 1}}, InvalidOption, r"^learner\.beta2 is 1"),
        ({"steps": 0}, InvalidOption, r"^steps is 0"),
        ({"algorithm": {"kl_coef": -1}}, InvalidOption, r"^algorithm\.kl_coef is -1"),
        ({"methods": {"sdar": {"kl_coef": -1}}}, InvalidOption, r"^methods\.sdar\.kl_coef is -1"),
        ({"rollout": {"env_id": "x"}}, UnknownName, r"^rollout\.env_id: no environment 'x'"),
        ({"log": {"tracker": "wandbb"}}, InvalidOption, r"Did you mean 'wandb'"),
    ],
)
def test_what_is_refused(given: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make_config({**LEAST, **given})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["learner.lr", "1"], "is no setting; wanted --a.b value"),
        (["--learner.lr"], "has no value"),
        (["--seed", "1", "--seed=2"], "given twice"),
        (["--seed", "1", "--seed.a", "2"], "have a value; wanted one of the two"),
        (["--learner", "1"], "learner is '1'; wanted a section"),
        (["--learner.lr", "high"], "learner.lr is 'high'; wanted a number"),
    ],
)
def test_what_the_command_line_refuses(arguments: list[str], message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        with_overrides(*arguments)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="Did you mean 'alfworld_sdar_tiny'"):
        load_config("alfworld_sdar_tini")
    path = tmp_path / "c.yaml"
    for text, error, message in (
        ("seed: 1\nseed: 2\n", CorruptData, "comes twice"),
        ("a: [", CorruptData, "no YAML"),
        ("- 1", InvalidOption, "wanted a section"),
        ("", InvalidOption, "wanted a section"),
    ):
        path.write_text(text)
        with pytest.raises(error, match=message):
            load_config(str(path))


def test_changes_are_named_by_their_path() -> None:
    assert changed_settings(to_plain(with_overrides()), to_plain(with_overrides("--learner.lr=1", "--seed=3"))) == [
        "seed",
        "learner.lr",
    ]


def test_the_resolved_file_has_every_setting() -> None:
    plain = yaml.safe_load(with_overrides().resolved().to_yaml())
    assert set(plain["algorithm"]) >= {"beta", "distill_coef", "kl_coef", "invalid_penalty"}
    assert plain["learner"]["lr"] == 1e-6
    assert plain["methods"] == {}


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["train", "--list"]) == 0
    listed, _, recipes = capsys.readouterr().out.partition("\n\n")
    assert recipes.splitlines()[1:] == [f"  {name}" for name in recipe_names()]
    rows = [line.split(maxsplit=1) for line in listed.splitlines()]
    assert [name for name, _ in rows] == list(config_names())
    assert ["webshop_sdar_paper", "SDAR's published settings for WebShop, for an accelerator."] in rows
    for argv, message in (
        (["train"], "wanted --config NAME"),
        (["train", "--config", "alfworld_sdar_tiny", "--lerner.lr", "1"], "Did you mean 'learner'"),
        (["train", "--config", "alfworld_sdar_tiny", "--model.path", str(tmp_path / "no")], "cannot be loaded"),
        (["train", "--resume", str(tmp_path)], "holds no run to resume"),
        (["train", "--resume", str(tmp_path), "--out", "x"], "with --resume"),
    ):
        assert main(argv) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["list", "--nonsense"])
    assert "unrecognized arguments: --nonsense" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model.engine=transformers"], "which scores as the learner does: wanted the engine vllm"),
        (["--method=grpo"], "grpo has no teacher: leave it out"),
        (
            ["--learner.teacher=ema"],
            r"^learner\.teacher_scores is engine and teacher is ema, whose weights no server has",
        ),
        (["--learner.teacher=frozen"], "name servers that keep the first ones in reference_engine"),
        (["--learner.teacher_control=teacher-is-student"], "which rounds otherwise: wanted teacher_scores learner"),
        (["--algorithm.divergence=rkl_topk"], "sdar compares whole distributions: set it to learner"),
        (["--rollout.temperature=0.7"], r"rollout\.temperature is 0\.7, and vLLM scores given tokens at temperature 1"),
        (
            ["--learner.reference_engine={servers: [http://a:1]}", "--algorithm.kl_coef=0"],
            "sdar has neither a reference nor a frozen teacher that they score",
        ),
    ],
)
def test_scores_of_servers_that_nobody_reads_or_they_cannot_give_are_refused(
    arguments: list[str], message: str
) -> None:
    scores = ("--model.engine=vllm", "--learner.teacher_scores=engine")
    names = [argument.partition("=")[0] for argument in arguments]
    given = [each for each in scores if each.partition("=")[0] not in names]
    with_overrides(*scores)
    with pytest.raises(InvalidOption, match=message):
        with_overrides(*given, *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max_staleness=2"], r"^max_staleness is 2; wanted a whole number from 0 to 1"),
        (["--model.engine=transformers"], "generates in the learner's process: set model.engine to vllm"),
        (["--context.name=sibling"], "the context sibling needs prompts in parts, which checkpoints do not hold"),
        (["--learner.teacher_scores=engine"], "whose servers may end while both need them"),
        (["--algorithm.sampler_cap=null"], "sdar does not correct for other weights: set algorithm.sampler_cap"),
    ],
)
def test_a_stale_rollout_that_cannot_be_played_kept_or_corrected_for_is_refused(
    arguments: list[str], message: str
) -> None:
    stale = ("--model.engine=vllm", "--max_staleness=1")
    names = [argument.partition("=")[0] for argument in arguments]
    with_overrides(*stale)
    with pytest.raises(InvalidOption, match=message):
        with_overrides(*(each for each in stale if each.partition("=")[0] not in names), *arguments)


def test_the_engine_vllm_has_its_own_dtype() -> None:
    with pytest.raises(InvalidOption, match="leave it null"):
        with_overrides("--model.engine=vllm", "--model.generation_dtype=bfloat16")
