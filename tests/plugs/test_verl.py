"""verl's agent loops, loaded and run by its own worker classes; the token server is a stub."""

import asyncio
import json
from types import SimpleNamespace

import pytest
from helpers.pages import blocks, run_block

from sdar_envs import ENV_IDS, ChatEpisode, make_text_env, task_rows, tasks, to_parquet
from sdar_envs.errors import EndpointError, InvalidOption, PromptTooLong
from sdar_envs.prompt import render_completion, style_of

pytest.importorskip("verl")
pytestmark = [pytest.mark.plugs, pytest.mark.filterwarnings("ignore")]

SPLITS = {"sdar/ALFWorld-v0": "valid_unseen", "sdar/WebShop-v0": "test", "sdar/SearchQA-v0": "test"}
every_id = pytest.mark.parametrize("env_id", ENV_IDS)
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{{ opening or '' }}{% endif %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a model of Qwen's kind, without weights."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("h", "e"), ("o", "n"), ("t", "he"), ("i", "n")]
    words = [*letters, *(left + right for left, right in merges)]
    raw = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=merges))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=TEMPLATE,
    )
    path = tmp_path_factory.mktemp("model")
    tokenizer.save_pretrained(path)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    Qwen2Config(vocab_size=len(tokenizer), architectures=["Qwen2ForCausalLM"], **sizes).save_pretrained(path)
    return path


class Server:
    """The token server: answers with what `answer` makes of the decoded prompt, and remembers."""

    def __init__(self, folder, answer):
        from transformers import AutoTokenizer

        self.tokenizer, self.answer, self.calls = AutoTokenizer.from_pretrained(folder), answer, []

    async def generate(self, request_id, *, prompt_ids, sampling_params, **_):
        from verl.workers.rollout.replica import TokenOutput

        text = self.answer(self.tokenizer.decode(prompt_ids))
        # Not as a tokenizer would encode it: "th" and "e" are apart.
        ids = [i for letter in text for i in self.tokenizer.encode(letter)] + [self.tokenizer.eos_token_id]
        self.calls.append((request_id, list(prompt_ids), ids))
        version = {"global_steps": 1, "min_global_steps": len(self.calls), "max_global_steps": len(self.calls)}
        return TokenOutput(token_ids=ids, log_probs=[-0.25] * len(ids), extra_fields=version)


class Oracle:
    """Answers with the plan of the task whose instruction the prompt has."""

    def __init__(self, env_id, listed):
        self.left = {}
        for task in listed:
            env = make_text_env(env_id)
            env.reset(options={"task_id": task.id})
            style = style_of(env, task)
            self.left[task.instruction] = [render_completion(style, plan, "So.") for plan in env.oracle_plan()]

    def __call__(self, prompt):
        return next(texts for instruction, texts in self.left.items() if instruction in prompt).pop(0)


def config_of(folder, tmp_path, **lengths):
    from hydra import compose, initialize_config_module

    (snippet,) = blocks("verl.md", "yaml")
    (tmp_path / "sdar.yaml").write_text(snippet)
    lengths = {"prompt_length": 20_000, "response_length": 20_000, **lengths}
    with initialize_config_module("verl.trainer.config", version_base=None):
        return compose(
            "ppo_trainer",
            overrides=[
                f"actor_rollout_ref.model.path={folder}",
                "actor_rollout_ref.rollout.name=vllm",
                "actor_rollout_ref.rollout.calculate_log_probs=true",
                f"actor_rollout_ref.rollout.agent.agent_loop_config_path={tmp_path / 'sdar.yaml'}",
                *(f"actor_rollout_ref.rollout.{name}={value}" for name, value in lengths.items()),
                f"data.max_prompt_length={lengths['prompt_length']}",
                "data.return_raw_chat=true",
            ],
        )


def rows_of(path, config, folder):
    """Return the rows of a Parquet file as verl's data set gives them."""
    from transformers import AutoTokenizer
    from verl.utils.dataset.rl_dataset import RLHFDataset

    dataset = RLHFDataset(str(path), AutoTokenizer.from_pretrained(folder), config.data)
    return [dataset[i] for i in range(len(dataset))]


def run_windowed(config, server, rows, monkeypatch):
    """Run the rows by verl's worker of trainer v1; return what it puts into the transfer queue."""
    from verl.trainer.ppo.v1 import agent_loop_tq

    put, failures = {}, []

    async def batch_put(keys, fields, tags, partition_id):
        put.update(zip(keys, zip(fields, tags, strict=True), strict=True))

    async def kv_put(key, partition_id, tag):
        failures.extend([key] if tag["status"] == "failure" else [])

    queue = SimpleNamespace(init=lambda: None, async_kv_put=kv_put, async_kv_batch_put=batch_put)
    monkeypatch.setattr(agent_loop_tq, "tq", queue)
    monkeypatch.setattr(agent_loop_tq, "list_of_dict_to_tensordict", lambda fields: fields)
    kind = agent_loop_tq.AgentLoopWorkerTQ.__ray_metadata__.modified_class
    worker = kind(config, server)

    async def run():
        trajectory = {"step": 1, "sample_index": 0, "rollout_n": 0, "validate": False}
        await asyncio.gather(
            *[
                worker._run_prompt(
                    {**row, "uid": f"u{i}", "global_steps": 1, "__rollout_n__": 1},
                    {"temperature": 1.0},
                    trajectory=trajectory,
                )
                for i, row in enumerate(rows)
            ]
        )

    asyncio.run(run())
    assert failures == []
    return put


def run_appended(config, server, rows):
    from verl.experimental.agent_loop.agent_loop import AgentLoopWorker
    from verl.protocol import DataProto
    from verl.utils.dataset.rl_dataset import collate_fn

    batch = DataProto.from_single_dict(collate_fn(rows))
    batch.meta_info.update({"global_steps": 1, "validate": False})
    return asyncio.run(AgentLoopWorker(config, server).generate_sequences(batch))


@every_id
def test_windowed_sequences(env_id, folder, tmp_path, monkeypatch):
    split = SPLITS[env_id]
    listed = tasks(env_id, split=split, limit=2)
    to_parquet(tmp_path / "rows.parquet", env_id, split=split, layout="verl", limit=2)
    config = config_of(folder, tmp_path)
    server = Server(folder, Oracle(env_id, listed))
    rows = rows_of(tmp_path / "rows.parquet", config, folder)
    put = run_windowed(config, server, rows, monkeypatch)
    for number, task in enumerate(listed):
        episode = ChatEpisode(env_id)
        step = episode.reset(task_id=task.id)
        oracle = Oracle(env_id, [task])
        turn = 0
        while not step.is_over:
            field, tag = put[f"u{number}_0_{turn}"]
            prompt = server.tokenizer.apply_chat_template(step.messages, add_generation_prompt=True, tokenize=False)
            assert server.tokenizer.decode(field["prompts"]) == prompt
            completion = oracle(prompt)
            response = server.tokenizer.decode(field["responses"])
            assert response.startswith(completion + "<|im_end|>")
            assert int(field["response_mask"].sum()) == len(completion) + 1
            assert field["rollout_log_probs"][: len(completion)].tolist() == [-0.25] * len(completion)
            assert len(field["rollout_log_probs"]) == len(field["responses"]) == len(field["response_mask"])
            assert field["rm_scores"].sum() == 1.0
            assert tag["min_global_steps"] == tag["max_global_steps"] > 0
            wanted = {"won": 1.0, "score": 1.0, "malformed": 0.0, "invalid": 0.0, "cut": 0.0}
            info = field["extra_fields"]["reward_extra_info"]
            assert {name: info[name] for name in wanted} == wanted
            step = episode.step(completion)
            turn += 1
        assert f"u{number}_0_{turn}" not in put
        assert info["turns"] == turn


@every_id
def test_appended_sequences(env_id, folder, tmp_path):
    split = SPLITS[env_id]
    listed = tasks(env_id, split=split, limit=2)
    to_parquet(tmp_path / "rows.parquet", env_id, split=split, layout="verl", limit=2, agent_name="sdar_appended")
    config = config_of(folder, tmp_path)
    server = Server(folder, Oracle(env_id, listed))
    output = run_appended(config, server, rows_of(tmp_path / "rows.parquet", config, folder))
    for number, task in enumerate(listed):
        episode = ChatEpisode(env_id, mode="appended")
        step = episode.reset(task_id=task.id)
        chat, written = step.messages, []
        for completion in Oracle(env_id, [task]).left[task.instruction]:
            step = episode.step(completion)
            written.append(completion)
            chat = [*chat, {"role": "assistant", "content": completion}, *step.new_messages]
        ids = output.batch["input_ids"][number][output.batch["attention_mask"][number].bool()].tolist()
        whole = server.tokenizer.apply_chat_template(chat, tokenize=False)
        assert server.tokenizer.decode(ids) + "\n" == whole
        mask = output.batch["response_mask"][number]
        masked = output.batch["responses"][number][mask.bool()].tolist()
        # What is trained on is what the server gave, token by token.
        theirs = [i for call in server.calls for i in call[2] if call[0] == request_of(server, task)]
        assert masked == theirs
        assert server.tokenizer.decode(masked) == "".join(f"{text}<|im_end|>" for text in written)
        logprobs = output.batch["rollout_log_probs"][number]
        assert logprobs[mask.bool()].tolist() == [-0.25] * len(masked)
        assert float(output.batch["rm_scores"][number].sum()) == 1.0
    assert output.non_tensor_batch["won"].tolist() == [1.0, 1.0]
    assert output.non_tensor_batch["cut"].tolist() == [0.0, 0.0]


def request_of(server, task):
    return next(call[0] for call in server.calls if task.instruction in server.tokenizer.decode(call[1]))


def loop_of(kind, folder, tmp_path, server, lengths=None, **settings):
    import hydra
    from transformers import AutoTokenizer
    from verl.experimental.agent_loop.agent_loop import DictConfigWrap
    from verl.utils.dataset.rl_dataset import RLHFDataset

    config = config_of(folder, tmp_path, **(lengths or {}))
    return hydra.utils.instantiate(
        {"name": "x", "_target_": f"sdar_envs.integrations.verl.{kind}", **settings},
        trainer_config=DictConfigWrap(config),
        server_manager=server,
        tokenizer=AutoTokenizer.from_pretrained(folder),
        processor=None,
        dataset_cls=RLHFDataset,
        data_config=DictConfigWrap(config.data),
        hf_model_type="qwen2",
    )


def run_loop(kind, folder, tmp_path, answer, row, *, lengths=None, **settings):
    async def run():
        server = Server(folder, answer)
        outputs = await loop_of(kind, folder, tmp_path, server, lengths, **settings).run({}, **row)
        return server, outputs

    return asyncio.run(run())


LOOK = "<think>So.</think><action>look</action>"


def alfworld_row(**arguments):
    return next(task_rows("sdar/ALFWorld-v0", split="valid_seen", limit=1, **arguments))


def test_long_prompts_show_fewer_turns(folder, tmp_path):
    row = alfworld_row(max_steps=4)
    long = f"<think>{'very ' * 40}long</think><action>go to nowhere</action>"
    server, outputs = run_loop("WindowedAgentLoop", folder, tmp_path, lambda prompt: long, row, history_length=4)
    lengths = [len(output.prompt_ids) for output in outputs]
    _, cut = run_loop(
        "WindowedAgentLoop",
        folder,
        tmp_path,
        lambda prompt: long,
        row,
        lengths={"prompt_length": lengths[2]},
        history_length=4,
    )
    assert [len(output.prompt_ids) for output in cut][:2] == lengths[:2]
    assert len(cut[2].prompt_ids) < lengths[2]
    assert "Turn 1, action" not in server.tokenizer.decode(cut[3].prompt_ids)
    assert server.tokenizer.decode(cut[3].prompt_ids).startswith("<|im_start|>user\n")
    for kind in ("WindowedAgentLoop", "AppendedAgentLoop"):
        with pytest.raises(PromptTooLong, match=r"raise actor_rollout_ref\.rollout\.prompt_length"):
            run_loop(kind, folder, tmp_path, lambda prompt: LOOK, row, lengths={"prompt_length": 100})


def test_an_episode_that_reaches_the_response_length_is_cut(folder, tmp_path):
    _, output = run_loop(
        "AppendedAgentLoop", folder, tmp_path, lambda prompt: LOOK, alfworld_row(), lengths={"response_length": 300}
    )
    assert len(output.response_ids) == len(output.response_mask) == len(output.response_logprobs) == 300
    info = output.extra_fields["reward_extra_info"]
    assert (output.reward_score, info["cut"], info["won"]) == (0.0, 1.0, 0.0)
    assert info["turns"] < 50


def test_a_template_that_opens_the_thought(folder, tmp_path):
    row = alfworld_row(max_steps=2)
    for opening, completion in (("<think>\n", "So.</think><action>look</action>"), ("", LOOK)):

        async def run(opening=opening, completion=completion):
            loop = loop_of("WindowedAgentLoop", folder, tmp_path, Server(folder, lambda prompt: completion))
            template = f"{{% set opening = {opening!r} %}}" + TEMPLATE
            loop.tokenizer.chat_template = loop.continuous_token_builder.tokenizer.chat_template = template
            return await loop.run({}, **row)

        outputs = asyncio.run(run())
        assert outputs[-1].extra_fields["reward_extra_info"]["malformed"] == 0.0


def test_questions_of_other_data_sets(folder, tmp_path):
    row = {
        "agent_name": "sdar_appended",
        "data_source": "searchR1_nq",
        "reward_model": {"style": "rule", "ground_truth": {"target": ["Ottawa"]}},
        "extra_info": {"index": 9, "question": "Capital of Canada?", "split": "validation"},
        "raw_prompt": [{"role": "user", "content": "of the data set"}],
    }
    server, output = run_loop(
        "AppendedAgentLoop",
        folder,
        tmp_path,
        lambda prompt: "<think>I know.</think><answer>Ottawa</answer>",
        row,
        env_id="sdar/SearchQA-v0",
        env_arguments={"max_steps": 2},
    )
    assert output.reward_score == 1.0
    assert "of the data set" not in server.tokenizer.decode(output.prompt_ids)
    with pytest.raises(InvalidOption, match="wanted its id"):
        run_loop("AppendedAgentLoop", folder, tmp_path, None, row)


def test_a_server_that_says_nothing(folder, tmp_path):
    async def nothing(*_, **__):
        return SimpleNamespace(token_ids=[], log_probs=None, extra_fields={})

    async def run():
        loop = loop_of("WindowedAgentLoop", folder, tmp_path, SimpleNamespace(generate=nothing))
        await loop.run({}, **alfworld_row())

    with pytest.raises(EndpointError, match="no token"):
        asyncio.run(run())


def test_control_tokens_of_passages_are_text(folder, tmp_path):
    row = {"question": "Who is <|im_end|>?", "golden_answers": ["Nobody"]}
    server, output = run_loop(
        "AppendedAgentLoop", folder, tmp_path, lambda prompt: "<answer>x</answer>", row, env_id="sdar/SearchQA-v0"
    )
    assert output.prompt_ids.count(server.tokenizer.eos_token_id) == 1
    assert "< |im_end|>" in server.tokenizer.decode(output.prompt_ids)


def test_nothing_that_gives_the_answer_away_is_kept(folder, tmp_path):
    (task,) = tasks("sdar/SearchQA-v0", split="test", limit=1)
    row = next(task_rows("sdar/SearchQA-v0", split="test", limit=1, reveal_answers=True))
    server, outputs = run_loop("WindowedAgentLoop", folder, tmp_path, lambda prompt: "<answer>x</answer>", row)
    text = json.dumps([output.extra_fields for output in outputs]) + server.tokenizer.decode(outputs[0].prompt_ids)
    assert task.data["answers"][0] not in text
    assert not any(name in text for name in ("golden", "supporting", "passage_ids"))


def test_the_page(folder, tmp_path, monkeypatch):
    import pyarrow.parquet

    monkeypatch.chdir(tmp_path)
    for code in blocks("verl.md"):
        run_block(code)
    assert pyarrow.parquet.read_metadata("train.parquet").num_rows == 512
    (row, *_) = rows_of(tmp_path / "val.parquet", config_of(folder, tmp_path), folder)
    assert {"raw_prompt", "agent_name", "env_id", "task_id", "env_arguments", "extra_info"} <= set(row)
