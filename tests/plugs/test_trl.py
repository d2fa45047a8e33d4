"""TRL's GRPOTrainer on each suite: by tools, by rollouts, and with SDAR's term."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from helpers.trl_models import save_tiny_qwen

from sdar_envs import tasks
from sdar_envs.integrations.trl import (
    ALFWorldTools,
    EpisodeRollouts,
    SearchQATools,
    WebShopTools,
    episode_return,
    make_dataset,
)
from sdar_envs.prompt import render_completion

pytestmark = [pytest.mark.plugs, pytest.mark.filterwarnings("default")]

TOOLS = {"sdar/ALFWorld-v0": ALFWorldTools, "sdar/WebShop-v0": WebShopTools, "sdar/SearchQA-v0": SearchQATools}
GROUP = 4
SPLITS = {"sdar/ALFWorld-v0": "valid_unseen", "sdar/WebShop-v0": "test", "sdar/SearchQA-v0": "test"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_qwen(tmp_path_factory.mktemp("model"))


def config(folder: Path, **settings: Any) -> Any:
    import trl

    given = {
        "max_steps": 3,
        "per_device_train_batch_size": 4,
        "num_generations": 4,
        "max_completion_length": 4000,
        "learning_rate": 1e-3,
        "logging_steps": 1,
    }
    quiet = {"use_cpu": True, "bf16": False, "report_to": "none", "save_strategy": "no", "disable_tqdm": True}
    return trl.GRPOConfig(output_dir=str(folder / "run"), **{**quiet, **given, **settings})


def scripted(trainer: Any, write: Any) -> list[list[int]]:
    """Have the trainer generate `write(place, prompt)` instead of what its model does; return the prompts it gave.

    A place is a row of the batch. Rows that call no tool leave the batch.
    """
    tokenizer, prompts, places = trainer.processing_class, [], []

    def generate(prompt_ids: list[list[int]], *_: Any, **__: Any) -> tuple[list[list[int]], None]:
        places[:] = places if len(prompt_ids) < GROUP else range(GROUP)
        texts = [write(place, tokenizer.decode(ids)) for place, ids in zip(places, prompt_ids, strict=True)]
        prompts.extend(prompt_ids)
        places[:] = [place for place, text in zip(places, texts, strict=True) if "<tool_call>" in text]
        written = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        return [[*ids, tokenizer.eos_token_id] for ids in written], None

    trainer._generate_single_turn = generate
    return prompts


def letters(completions: list[Any], **_: Any) -> list[float]:
    """A reward that differs between what a random model writes: its share of vowels."""
    texts = [json.dumps(completion) for completion in completions]
    return [sum(text.count(vowel) for vowel in "aeiou") / len(text) for text in texts]


def grad_norms(trainer: Any) -> list[float]:
    return [row["grad_norm"] for row in trainer.state.log_history if "grad_norm" in row]


@pytest.mark.parametrize("env_id", TOOLS)
def test_rows_name_tasks_and_no_answers(env_id: str) -> None:
    listed = tasks(env_id, split=SPLITS[env_id], limit=5)
    for for_rollouts in (False, True):
        rows = list(make_dataset(env_id, split=SPLITS[env_id], limit=5, for_rollouts=for_rollouts))
        assert rows == [
            {
                "prompt": [{"role": "user", "content": task.id if for_rollouts else ""}],
                "task_id": task.id,
                "task_type": task.task_type,
                "environment": task.suite,
            }
            for task in listed
        ]


# -- tools ------------------------------------------------------------------------------------


@pytest.mark.parametrize("env_id", TOOLS)
def test_a_random_model_trains_with_tools(env_id: str, model: Path, tmp_path: Path) -> None:
    import trl

    trainer = trl.GRPOTrainer(
        model=str(model),
        args=config(tmp_path, max_completion_length=64),
        reward_funcs=letters,
        train_dataset=make_dataset(env_id, split=SPLITS[env_id], limit=3),
        environment_factory=partial(TOOLS[env_id], split=SPLITS[env_id]),
    )
    trainer.train()
    norms = grad_norms(trainer)
    assert len(norms) == 3
    assert min(norms) > 0


@pytest.mark.parametrize("env_id", TOOLS)
def test_rewards_of_tool_calls_train(env_id: str, model: Path, tmp_path: Path) -> None:
    """Two of each group play the expert's plan, two say nothing: the environment's own reward moves the model."""
    trainer = tool_trainer(env_id, model, tmp_path)

    def write(place: int, prompt: str) -> str:
        tools = trainer.environments[place]
        if place % 2:
            return "I would rather not."
        if tools._episode.last.is_over:
            return "Done."
        command = tools._episode.env.oracle_plan()[0]
        tool = next(tool for tool in tools._episode.style.tools if tool.argument(command) is not None)
        return f"<tool_call>\n{tool.call(tool.argument(command))}\n</tool_call>"

    scripted(trainer, write)
    trainer.train()
    assert [row["reward"] for row in trainer.state.log_history if "reward" in row] == [0.5, 0.5, 0.5]
    assert trainer.state.log_history[0][f"rewards/{TOOLS[env_id].__name__}/mean"] == 0.5
    assert min(grad_norms(trainer)) > 0


def tool_trainer(env_id: str, model: Path, folder: Path, **settings: Any) -> Any:
    import trl

    return trl.GRPOTrainer(
        model=str(model),
        args=config(folder, max_tool_calling_iterations=50, shuffle_dataset=False, **settings),
        train_dataset=make_dataset(env_id, split=SPLITS[env_id], limit=3),
        environment_factory=partial(TOOLS[env_id], split=SPLITS[env_id]),
    )


def test_three_suites_train_in_one_run(model: Path, tmp_path: Path) -> None:
    import trl
    from datasets import concatenate_datasets

    trainer = trl.GRPOTrainer(
        model=str(model),
        args=config(tmp_path, max_completion_length=32, shuffle_dataset=False),
        reward_funcs=letters,
        train_dataset=concatenate_datasets([make_dataset(name, split=SPLITS[name], limit=1) for name in TOOLS]),
        environment_factory={"alfworld": ALFWorldTools, "webshop": WebShopTools, "search_qa": SearchQATools},
    )
    prompts = scripted(trainer, lambda place, prompt: "abcde"[place] * 3)
    trainer.train()
    texts = [trainer.processing_class.decode(ids) for ids in prompts]
    assert [("act" in text, "click" in text, "encyclopedia" in text) for text in texts[::GROUP]] == [
        (True, False, False),
        (False, True, False),
        (False, False, True),
    ] or len({text[:40] for text in texts}) == 1
    assert min(grad_norms(trainer)) > 0


# -- rollouts ---------------------------------------------------------------------------------


def rollout_trainer(env_id: str, model: Path, folder: Path, rewards: list[Any], turns: int = 4, **settings: Any) -> Any:
    import trl

    return trl.GRPOTrainer(
        model=str(model),
        args=config(folder, shuffle_dataset=False, **settings),
        reward_funcs=rewards,
        train_dataset=make_dataset(env_id, split=SPLITS[env_id], limit=3, for_rollouts=True),
        rollout_func=EpisodeRollouts(env_id, turn_tokens=16, split=SPLITS[env_id], max_steps=turns),
    )


@pytest.mark.parametrize("env_id", TOOLS)
def test_a_random_model_trains_by_rollouts(env_id: str, model: Path, tmp_path: Path) -> None:
    """Every sampled token is trained as it was sampled, and nothing else is."""
    trainer = rollout_trainer(env_id, model, tmp_path, [episode_return, letters])
    generate, sampled = trainer._generate_single_turn, []
    trainer._generate_single_turn = lambda *args: (
        sampled.append((args[0], generate(*args)[0])) or (sampled[-1][1], None)
    )
    trainer.train()
    assert len(grad_norms(trainer)) == 3
    assert min(grad_norms(trainer)) > 0
    assert max(map(len, (ids for _, written in sampled for ids in written))) <= 16
    rollout = trainer.rollout_func([[{"role": "user", "content": first_task(env_id)}]] * 2, trainer)
    turns = [(given, written) for given, written in sampled[-4:]]
    for row in range(2):
        prompt, completion, mask = (rollout[name][row] for name in ("prompt_ids", "completion_ids", "env_mask"))
        assert len(completion) == len(mask)
        assert mask[-1] == 1
        assert [token for token, own in zip(completion, mask, strict=True) if own] == [
            token for _, written in turns for token in written[row]
        ]
        for given, written in turns:
            whole = given[row] + written[row]
            assert (prompt + completion)[: len(whole)] == whole


def first_task(env_id: str) -> str:
    return tasks(env_id, split=SPLITS[env_id], limit=1)[0].id


@pytest.mark.parametrize("env_id", TOOLS)
def test_rewards_of_rollouts_train(env_id: str, model: Path, tmp_path: Path) -> None:
    """Two of each group play the expert's plan; the sequence is the chat that the template makes of the episode."""
    trainer = rollout_trainer(env_id, model, tmp_path, [episode_return], turns=50)
    tokenizer, episodes = trainer.processing_class, trainer.rollout_func.episodes

    def generate(prompt_ids: list[list[int]], *_: Any) -> tuple[list[list[int]], None]:
        playing = [episode for episode in episodes if not episode.last.is_over]
        texts = []
        for episode, ids in zip(playing, prompt_ids, strict=True):
            messages = episode.conversation.messages()
            assert tokenizer.decode(ids) == tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
            is_expert = episodes.index(episode) % 2
            texts.append(render_completion(episode.style, episode.env.oracle_plan()[0], "So.") if is_expert else "No.")
        written = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        return [[*ids, tokenizer.eos_token_id] for ids in written], None

    trainer._generate_single_turn = generate
    trainer.train()
    assert [row["reward"] for row in trainer.state.log_history if "reward" in row] == [0.5, 0.5, 0.5]
    assert min(grad_norms(trainer)) > 0
