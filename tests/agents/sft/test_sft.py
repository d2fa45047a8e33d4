"""Fine-tuning: the loss by hand, cuts that change nothing, runs that resume bit for bit, a model that learns."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from helpers.tiny_models import tiny_model, tiny_tokenizer
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing

from sdar_agents.engines.transformers import load_model
from sdar_agents.learner.weights import fingerprint
from sdar_agents.sft import sft
from sdar_agents.sft.examples import Examples, encode_rows, plan_batches
from sdar_agents.sft.settings import SFTSettings
from sdar_agents.sft.sft import fine_tune
from sdar_agents.sft.tiny import TINY_SFT, train_tokenizer
from sdar_agents.sft.warm_start import default_settings, warm_start
from sdar_agents.training.saving.checkpoints import Checkpoints
from sdar_envs.errors import CorruptData, InvalidOption, MissingData, RunStopped

ROWS = [
    {"messages": [{"role": "user", "content": f"say {word * n}"}], "completion": f"<action>{word}</action>"}
    for n, word in enumerate(["hello", "no", "look", "the door", "on", "hell"] * 3, 1)
]
MEASURES = ("loss", "accuracy", "grad_norm")


@pytest.fixture(scope="module")
def examples() -> Examples:
    return encode_rows(ROWS, tiny_tokenizer())


def model() -> Any:
    return tiny_model(vocab_size=len(tiny_tokenizer()))


def losses_by_hand(trained: Any, examples: Examples, row: int) -> torch.Tensor:
    """Of all tokens but the first, the row alone."""
    ids = torch.from_numpy(examples.token_ids[examples.starts[row] : examples.starts[row + 1]].astype(np.int64))
    with torch.no_grad():
        logits = trained(ids[None, :-1]).logits[0]
    return torch.nn.functional.cross_entropy(logits, ids[1:], reduction="none")


def train(settings: SFTSettings, examples: Examples, **given: Any) -> tuple[Any, list[dict[str, float]]]:
    trained = given.pop("trained", None) or model()
    lines: list[dict[str, float]] = []
    fine_tune(trained, examples, settings, pad_id=0, log=lambda line: lines.append(dict(line)), **given)
    return trained, lines


def test_rows_are_prompt_completion_and_end(examples: Examples) -> None:
    tokenizer = tiny_tokenizer()
    for row, start, end, prompt in zip(
        ROWS, examples.starts, examples.starts[1:], examples.prompt_lengths, strict=False
    ):
        ids = examples.token_ids[start:end].tolist()
        rendered = tokenizer.apply_chat_template(row["messages"], tokenize=False, add_generation_prompt=True)
        assert tokenizer.decode(ids[:prompt]) == rendered
        assert tokenizer.decode(ids[prompt:]) == f"{row['completion']}<|end|>"


def test_the_loss_is_that_of_the_completions_tokens(examples: Examples) -> None:
    settings = SFTSettings(lr=0.0, batch_tokens=10**6, max_tokens=10**6, prompt_weight=0.3)
    trained, (line,) = train(settings, examples)
    answers = torch.cat(
        [losses_by_hand(trained, examples, i)[examples.prompt_lengths[i] - 1 :] for i in range(len(ROWS))]
    )
    assert line["loss"] == pytest.approx(answers.mean().item(), abs=1e-5)
    assert line["tokens"] == len(examples.token_ids)


def test_the_gradient_is_that_of_the_weighted_mean(examples: Examples) -> None:
    trained = model()
    total = torch.zeros(())
    weights = 0.0
    for i in range(len(ROWS)):
        ids = torch.from_numpy(examples.token_ids[examples.starts[i] : examples.starts[i + 1]].astype(np.int64))
        losses = torch.nn.functional.cross_entropy(trained(ids[None, :-1]).logits[0], ids[1:], reduction="none")
        factor = torch.full_like(losses, 0.25)
        factor[examples.prompt_lengths[i] - 1 :] = 1.0
        total = total + (factor * losses).sum()
        weights += factor.sum().item()
    (total / weights).backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in trained.parameters()]).item()
    settings = SFTSettings(lr=0.0, batch_tokens=10**6, max_tokens=10**6, prompt_weight=0.25)
    _, (line,) = train(settings, examples)
    assert line["grad_norm"] == pytest.approx(norm, rel=1e-5)


def test_the_measures_are_those_of_the_step_however_many_logits_fit(
    examples: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SFTSettings(lr=0.0, batch_tokens=10**6, max_tokens=10**6)
    learnt, _ = train(SFTSettings(lr=2e-2, batch_tokens=400, epochs=4), examples)
    trained, (line,) = train(settings, examples, trained=learnt)
    hits = 0
    for i in range(len(ROWS)):
        ids = torch.from_numpy(examples.token_ids[examples.starts[i] : examples.starts[i + 1]].astype(np.int64))
        with torch.no_grad():
            guesses = trained(ids[None, :-1]).logits[0].argmax(dim=-1)
        hits += int((guesses == ids[1:])[examples.prompt_lengths[i] - 1 :].sum())
    answers = int((examples.lengths - examples.prompt_lengths).sum())
    assert 0 < hits < answers
    assert line["accuracy"] == pytest.approx(hits / answers, abs=1e-9)
    monkeypatch.setattr(sft, "CHUNK_ELEMENTS", 1000)
    assert train(settings, examples, trained=learnt)[1][0]["accuracy"] == line["accuracy"]


def test_activations_may_be_computed_twice(examples: Examples) -> None:
    settings = {"lr": 1e-2, "batch_tokens": 400, "log_every": 1}
    plain, lines = train(SFTSettings(**settings), examples)
    calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    trained = model()
    trained.model.layers[0].mlp.register_forward_pre_hook(count)
    again, others = train(SFTSettings(**settings, gradient_checkpointing=True), examples, trained=trained)
    assert calls == 2 * len(lines)
    # Afterwards the model is as it was.
    train(SFTSettings(lr=0.0, batch_tokens=10**6, max_tokens=10**6), examples, trained=trained)
    assert calls == 2 * len(lines) + 1
    assert [line["grad_norm"] for line in others] == pytest.approx([line["grad_norm"] for line in lines], rel=1e-5)
    for one, other in zip(plain.parameters(), again.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_validation_rows_are_measured_and_not_learnt(examples: Examples) -> None:
    other = encode_rows([{**ROWS[0], "completion": "<action>another</action>"}, *ROWS[3:5]], tiny_tokenizer())
    settings = SFTSettings(lr=1e-2, batch_tokens=400, max_tokens=90, epochs=2, log_every=10**6, validate_every=3)
    trained, lines = train(settings, examples, validation=other)
    plain, _ = train(settings, examples)
    assert fingerprint(trained) == fingerprint(plain)
    steps = lines[-1]["steps"]
    assert [line["step"] for line in lines] == [*range(3, int(steps), 3), steps]
    by_hand = torch.cat([losses_by_hand(trained, other, i)[other.prompt_lengths[i] - 1 :] for i in range(3)])
    assert lines[-1]["validation_loss"] == pytest.approx(by_hand.mean().item(), abs=1e-5)
    assert lines[0]["validation_loss"] > lines[-1]["validation_loss"]
    assert 0 < lines[-1]["validation_accuracy"] <= 1
    (line,) = train(SFTSettings(log_every=10**6), examples, validation=other)[1]
    assert "validation_loss" in line
    assert "validation_loss" not in train(SFTSettings(), examples)[1][0]


def test_the_learning_rate_rises_and_falls(examples: Examples) -> None:
    settings = SFTSettings(lr=0.5, warmup=0.4, final_lr=0.1, batch_tokens=1, epochs=1, log_every=1, clip_norm=0.0)
    rates = [line["lr"] for line in train(settings, examples)[1]]
    assert len(rates) == len(ROWS) == 18
    # Seven steps up (0.4 of 18), then half a cosine over eleven to a tenth.
    assert rates[:7] == pytest.approx([0.5 * i / 7 for i in range(1, 8)])
    assert rates[7:] == pytest.approx([0.5 * (0.1 + 0.45 * (1 + math.cos(math.pi * i / 11))) for i in range(1, 12)])
    assert train(SFTSettings(warmup=0.0, batch_tokens=1, log_every=1), examples)[1][0]["lr"] == 1e-5


def test_gradients_are_shortened_to_the_limit_and_vectors_do_not_decay(examples: Examples) -> None:
    # A gradient of no length: only the decay moves the weights.
    settings = SFTSettings(lr=0.1, weight_decay=0.5, batch_tokens=10**6, clip_norm=0.0, warmup=0.0)
    before = model()
    after, _ = train(settings, examples)
    for one, other in zip(before.parameters(), after.parameters(), strict=True):
        assert torch.allclose(other, one * (0.95 if one.ndim >= 2 else 1.0), atol=1e-7)
    # AdamW's first step does not depend on the gradient's length, its second does.
    few = {"lr": 0.1, "batch_tokens": 10**6, "epochs": 2, "warmup": 0.0}
    free, short = (train(SFTSettings(clip_norm=limit, **few), examples)[0] for limit in (None, 0.01))
    assert fingerprint(free) != fingerprint(short)
    assert fingerprint(free) == fingerprint(train(SFTSettings(clip_norm=1e9, **few), examples)[0])
    assert fingerprint(free) != fingerprint(train(SFTSettings(clip_norm=None, beta2=0.5, **few), examples)[0])


def test_the_order_is_another_in_each_epoch_and_follows_the_seed() -> None:
    lengths = [10] * 50
    batches = plan_batches(lengths, SFTSettings(batch_tokens=50, epochs=2, seed=3))
    assert batches == plan_batches(lengths, SFTSettings(batch_tokens=50, epochs=2, seed=3))
    assert batches != plan_batches(lengths, SFTSettings(batch_tokens=50, epochs=2, seed=4))
    assert batches[:10] != batches[10:]
    assert any(max(batch) - min(batch) >= len(batch) for batch in batches)


def test_batches_hold_rows_of_like_length_in_an_order_by_chance() -> None:
    lengths = [10 + row % 90 for row in range(300)]
    batches = plan_batches(lengths, SFTSettings(batch_tokens=500))
    padded = sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)
    assert padded < 1.05 * sum(lengths)
    longest = [max(lengths[row] for row in batch) for batch in batches]
    assert longest != sorted(longest)


@pytest.mark.parametrize("max_tokens", [1, 60, 200])
def test_micro_batches_do_not_change_a_step(examples: Examples, max_tokens: int) -> None:
    whole = SFTSettings(lr=1e-2, batch_tokens=10**6, max_tokens=10**6, prompt_weight=0.2, epochs=2, log_every=1)
    cut = SFTSettings(lr=1e-2, batch_tokens=10**6, max_tokens=max_tokens, prompt_weight=0.2, epochs=2, log_every=1)
    for one, other in zip(train(whole, examples)[1], train(cut, examples)[1], strict=True):
        for name in MEASURES:
            assert one[name] == pytest.approx(other[name], rel=1e-4), name


@given(st.lists(st.integers(1, 90), min_size=1, max_size=300), st.integers(1, 3), st.integers(1, 400))
def test_each_row_comes_once_in_an_epoch_and_batches_are_small_enough(
    lengths: list[int], epochs: int, batch_tokens: int
) -> None:
    batches = plan_batches(lengths, SFTSettings(epochs=epochs, batch_tokens=batch_tokens))
    assert sorted(row for batch in batches for row in batch) == sorted(list(range(len(lengths))) * epochs)
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= batch_tokens


def test_a_model_learns_its_rows(examples: Examples) -> None:
    settings = SFTSettings(lr=2e-2, batch_tokens=400, epochs=15, prompt_weight=0.1, log_every=10**6)
    trained, (line,) = train(settings, examples)
    assert not trained.training
    assert line["loss"] < 0.1
    assert line["accuracy"] > 0.95


def test_a_run_that_was_killed_ends_as_if_it_had_not_been(examples: Examples, tmp_path: Path) -> None:
    settings = SFTSettings(lr=1e-2, batch_tokens=400, max_tokens=200, epochs=3, save_every=4, log_every=1)
    whole, lines = train(settings, examples)
    checkpoints = Checkpoints(tmp_path, keep=1)
    trained = model()

    def stop(line: Any) -> None:
        if line["step"] == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fine_tune(
            trained,
            examples,
            settings,
            pad_id=0,
            checkpoints=checkpoints,
            save_model=trained.save_pretrained,
            log=stop,
        )
    (checkpoint,) = checkpoints.all()
    assert checkpoint.step == 4
    read = type(trained).from_pretrained(checkpoint.model)
    again, rest = train(settings, examples, trained=read, resume_from=checkpoint)
    assert fingerprint(again) == fingerprint(whole)
    for name in ("step", "loss", "lr", "tokens"):
        assert [line[name] for line in rest] == [line[name] for line in lines[4:]]
    with pytest.raises(InvalidOption, match="resume with the same demonstrations and settings"):
        train(SFTSettings(epochs=1), examples, resume_from=checkpoint)
    # As many steps, other rows.
    others = encode_rows([*ROWS[1:], ROWS[0]], tiny_tokenizer())
    assert len(plan_batches(others.lengths.tolist(), settings)) == lines[0]["steps"]
    with pytest.raises(InvalidOption, match="resume with the same demonstrations and settings"):
        train(settings, others, resume_from=checkpoint)


def test_a_loss_that_is_not_finite_stops_the_run(examples: Examples) -> None:
    broken = model()
    with torch.no_grad():
        broken.lm_head.weight[3, 3] = float("nan")
    before = fingerprint(broken)
    with pytest.raises(RunStopped, match="the gradient of step 1 is nan"):
        train(SFTSettings(), examples, trained=broken)
    assert fingerprint(broken) == before


def test_models_that_cannot_be_trained_so_are_refused(examples: Examples) -> None:
    with pytest.raises(InvalidOption, match="the model knows 64"):
        train(SFTSettings(), examples, trained=tiny_model(vocab_size=64))
    with pytest.raises(InvalidOption, match="the model knows"):
        train(
            SFTSettings(),
            Examples(np.array([1, 2, 3], np.int32), np.array([0, 3]), np.array([1])),
            validation=examples,
            trained=tiny_model(vocab_size=64),
        )
    capped = model()
    capped.config.final_logit_softcapping = 30.0
    with pytest.raises(InvalidOption, match="changes its logits"):
        train(SFTSettings(), examples, trained=capped)
    frozen = model().requires_grad_(False)
    with pytest.raises(InvalidOption, match="no weight of the model is to be trained"):
        train(SFTSettings(), examples, trained=frozen)
    with pytest.raises(InvalidOption, match=r"SFTSettings.beta2 is 1.0"):
        SFTSettings(beta2=1.0)


def test_lines_and_checkpoints_come_as_often_as_they_are_wanted(examples: Examples, tmp_path: Path) -> None:
    settings = SFTSettings(batch_tokens=400, epochs=2, log_every=3, save_every=4)
    checkpoints = Checkpoints(tmp_path, keep=9)
    trained = model()
    _, lines = train(settings, examples, trained=trained, checkpoints=checkpoints, save_model=trained.save_pretrained)
    assert [line["step"] for line in lines] == [3, 6, 8]
    assert lines[0]["steps"] == 8
    # None of the last step: the model itself is what is left of that.
    assert [checkpoint.step for checkpoint in checkpoints.all()] == [4]


def test_dropout_is_off(examples: Examples) -> None:
    settings = SFTSettings(lr=0.0, batch_tokens=10**6, max_tokens=10**6)
    (line,) = train(settings, examples, trained=tiny_model(vocab_size=len(tiny_tokenizer()), attention_dropout=0.5))[1]
    assert line["loss"] == train(settings, examples)[1][0]["loss"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "there are no demonstrations"),
        ([ROWS[0], {"messages": ROWS[0]["messages"]}], "row 2 has no messages or no completion"),
        ([{"messages": [{"role": "user", "content": "x" * 99}], "completion": "y"}], "row 1 has 104 tokens"),
        ([{"messages": "say no", "completion": "y"}], "row 1 has the messages 'say no'; wanted a list"),
        ([{"messages": [{"role": "user"}], "completion": "y"}], "row 1 has the messages"),
        ([{"messages": ["say no"], "completion": "y"}], "row 1 has the messages"),
        ([{"messages": ROWS[0]["messages"], "completion": 3}], "row 1 has the completion 3; wanted text"),
    ],
)
def test_rows_that_cannot_be_used_are_refused(rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(InvalidOption, match=re.escape(message)):
        encode_rows(rows, tiny_tokenizer(), max_length=90)


def test_a_tokenizer_without_a_template_is_refused() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(InvalidOption, match="no chat template"):
        encode_rows(ROWS, tokenizer)
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(InvalidOption, match="no end token"):
        encode_rows(ROWS, tokenizer)


def test_a_row_as_long_as_the_context_is_read(examples: Examples) -> None:
    longest = int(examples.lengths.max())
    assert len(encode_rows(ROWS, tiny_tokenizer(), max_length=longest).lengths) == len(ROWS)
    with pytest.raises(InvalidOption, match=f"has {longest} tokens and the model reads {longest - 1}"):
        encode_rows(ROWS, tiny_tokenizer(), max_length=longest - 1)


def test_the_template_has_its_options_and_its_say() -> None:
    tokenizer = tiny_tokenizer()
    found = encode_rows(ROWS[:1], tokenizer, template_options={"opening": "<think>"})
    assert tokenizer.decode(found.token_ids[: found.prompt_lengths[0]]).endswith("<|assistant|><think>")
    tokenizer.chat_template = "{{ raise_exception('no system message, please') }}"
    with pytest.raises(InvalidOption, match=r"row 1: the chat template .* no system message, please"):
        encode_rows(ROWS, tokenizer)


def test_a_tokenizer_adds_nothing_of_its_own() -> None:
    tokenizer = tiny_tokenizer()
    raw = tokenizer.backend_tokenizer
    raw.post_processor = TemplateProcessing(single="<|system|> $A", special_tokens=[("<|system|>", 267)])
    assert tokenizer("no")["input_ids"][0] == 267
    assert encode_rows(ROWS, tokenizer).token_ids.tolist() == encode_rows(ROWS, tiny_tokenizer()).token_ids.tolist()


def test_many_rows_are_numbered_through() -> None:
    rows = [ROWS[0]] * 1500
    assert len(encode_rows(rows, tiny_tokenizer()).lengths) == 1500
    with pytest.raises(InvalidOption, match="row 1501 has no messages"):
        encode_rows([*rows, {}], tiny_tokenizer())


# -- from files to a model --------------------------------------------------------------------


@pytest.fixture
def demos(tmp_path: Path) -> Path:
    path = tmp_path / "demos.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


QUICK = SFTSettings(lr=1e-2, batch_tokens=300, max_tokens=300, epochs=2, save_every=2, log_every=1)


def test_a_tiny_model_is_made_trained_and_read_back(demos: Path, tmp_path: Path) -> None:
    lines: list[Any] = []
    folder = warm_start("tiny-test", [demos], tmp_path / "run", QUICK, device="cpu", log=lines.append)
    assert folder == tmp_path / "run" / "model"
    trained, tokenizer = load_model(str(folder))
    assert tokenizer.chat_template is not None
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["config.json", "model", "sft.jsonl"]
    written = [json.loads(line) for line in (tmp_path / "run" / "sft.jsonl").read_text().splitlines()]
    assert written == lines
    assert [line["step"] for line in lines] == list(range(1, lines[0]["steps"] + 1))
    # A finished run is not done again, a model that is there is trained on.
    assert warm_start("tiny-test", [demos], tmp_path / "run", QUICK, device="cpu", resume=True) == folder
    more = warm_start(str(folder), [demos], tmp_path / "more", QUICK, device="cpu")
    assert fingerprint(load_model(str(more))[0]) != fingerprint(trained)


def test_a_killed_warm_start_resumes(demos: Path, tmp_path: Path) -> None:
    whole = warm_start("tiny-test", [demos], tmp_path / "whole", QUICK, device="cpu")

    def stop(line: Any) -> None:
        if line["step"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        warm_start("tiny-test", [demos], tmp_path / "cut", QUICK, device="cpu", log=stop)
    with pytest.raises(InvalidOption, match="already holds a run"):
        warm_start("tiny-test", [demos], tmp_path / "cut", QUICK, device="cpu")
    with pytest.raises(InvalidOption, match="is a run with other settings"):
        warm_start("tiny-test", [demos], tmp_path / "cut", SFTSettings(), device="cpu", resume=True)
    cut = warm_start("tiny-test", [demos], tmp_path / "cut", QUICK, device="cpu", resume=True)
    assert fingerprint(load_model(str(cut))[0]) == fingerprint(load_model(str(whole))[0])
    steps = [json.loads(line)["step"] for line in (tmp_path / "cut" / "sft.jsonl").read_text().splitlines()]
    assert steps == list(range(1, steps[-1] + 1))


LORA = replace(QUICK, lora_rank=2, lora_alpha=8, lora_blocks=1)


def test_adapters_alone_are_trained_written_and_merged(demos: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    base = warm_start("tiny-test", [demos], tmp_path / "base", QUICK, device="cpu")
    folder = warm_start(str(base), [demos], tmp_path / "run", LORA, device="cpu")
    written = safetensors.torch.load_file(folder.parent / "adapter" / "adapter_model.safetensors")
    # Rank 2, in the last of two blocks, in its seven linear layers.
    assert {tensor.shape[0] if "lora_A" in name else tensor.shape[1] for name, tensor in written.items()} == {2}
    assert {name.split(".layers.")[1].split(".")[0] for name in written} == {"1"}
    assert len(written) == 2 * 7
    before, after = (load_model(str(path))[0].state_dict() for path in (base, folder))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {f"{name.split('base_model.model.')[1].split('.lora_')[0]}.weight" for name in written}
    # The adapters alone name their model: they give the same weights, and can be trained on.
    merged = load_model(str(folder.parent / "adapter"))[0].state_dict()
    assert all(torch.equal(merged[name], after[name]) for name in after)
    warm_start(str(folder.parent / "adapter"), [demos], tmp_path / "more", QUICK, device="cpu")
    # Those of another model are refused, which peft would load as nothing.
    for part in (dict(list(written.items())[1:]), {f"{name}.x": tensor for name, tensor in written.items()}):
        safetensors.torch.save_file(part, folder.parent / "adapter" / "adapter_model.safetensors")
        with pytest.raises(InvalidOption, match="its adapters are not those of"):
            load_model(str(folder.parent / "adapter"))


def test_a_killed_run_of_adapters_resumes(demos: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    whole = warm_start("tiny-test", [demos], tmp_path / "whole", LORA, device="cpu")

    def stop(line: Any) -> None:
        if line["step"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        warm_start("tiny-test", [demos], tmp_path / "cut", LORA, device="cpu", log=stop)
    with pytest.raises(InvalidOption, match="lora_rank changed"):
        warm_start("tiny-test", [demos], tmp_path / "cut", replace(LORA, lora_rank=3), device="cpu", resume=True)
    cut = warm_start("tiny-test", [demos], tmp_path / "cut", LORA, device="cpu", resume=True)
    assert fingerprint(load_model(str(cut))[0]) == fingerprint(load_model(str(whole))[0])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lora_targets": "q_prj"}, "lora_targets has 'q_prj'.*Did you mean 'q_proj'"),
        ({"lora_blocks": 3}, "lora_blocks is 3, and the model has 2"),
    ],
)
def test_adapters_that_do_not_fit_the_model_are_one_line(
    given: dict[str, Any], message: str, demos: Path, tmp_path: Path
) -> None:
    pytest.importorskip("peft")
    with pytest.raises((InvalidOption, LookupError), match=message) as caught:
        warm_start("tiny-test", [demos], tmp_path / "run", replace(LORA, **given), device="cpu")
    assert "\n" not in str(caught.value)


def test_settings_of_adapters_without_a_rank_are_refused() -> None:
    with pytest.raises(InvalidOption, match="lora_targets is given without lora_rank"):
        SFTSettings(lora_targets="q_proj")


def test_a_real_models_folder_is_trained_with_its_templates_options(demos: Path, tmp_path: Path) -> None:
    made = warm_start("tiny-test", [demos], tmp_path / "made", QUICK, device="cpu")
    tokenizer = load_model(str(made))[1]
    tokenizer.chat_template += "{% if opening %}{{ opening }}{% endif %}"
    tokenizer.save_pretrained(made)
    half, _ = load_model(str(made), dtype="bfloat16")
    half.save_pretrained(made)
    settings = SFTSettings(lr=1e-3, autocast=True, gradient_checkpointing=True, template_options={"opening": "<think>"})
    lines: list[Any] = []
    folder = warm_start(
        str(made), [demos], tmp_path / "run", settings, device="cpu", validation=[demos], log=lines.append
    )
    trained, _ = load_model(str(folder))
    assert next(trained.parameters()).dtype == torch.float32
    tokens = encode_rows(ROWS, tokenizer, template_options={"opening": "<think>"}).token_ids
    assert lines[-1]["tokens"] == len(tokens)
    assert math.isfinite(lines[-1]["validation_loss"])
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["validation"] == [str(demos)]
    assert config["template_options"] == {"opening": "<think>"}
    with pytest.raises(InvalidOption, match="validation changed"):
        warm_start(str(made), [demos], tmp_path / "run", settings, device="cpu", resume=True)


def test_a_folder_is_free_again_if_a_run_could_not_begin(
    demos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text(demos.read_text() + '{"messages": 3, "completion": "x"}\n')
    with pytest.raises(InvalidOption, match=r"bad.jsonl, line 19, has the messages 3"):
        warm_start("tiny-test", [bad], tmp_path / "run", QUICK, device="cpu")
    with pytest.raises(InvalidOption, match=r"bad.jsonl, line 19, has the messages 3"):
        warm_start("tiny-test", [demos], tmp_path / "run", QUICK, device="cpu", validation=[bad])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny-tset").mkdir()  # a folder that holds no model, so that no hub is asked
    with pytest.raises(InvalidOption, match=r"cannot be loaded.* Did you mean 'tiny-test'"):
        warm_start("tiny-tset", [demos], tmp_path / "run", QUICK, device="cpu")
    with pytest.raises(InvalidOption, match="cannot be made on abacus"):
        warm_start("tiny-test", [demos], tmp_path / "run", QUICK, device="abacus")
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".config.json-0123").touch()  # of a kill in the middle of the first write
    warm_start("tiny-test", [demos], tmp_path / "run", QUICK, device="cpu")


def test_folders_of_other_things_are_left_alone(demos: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    (mine / "model").mkdir(parents=True)
    for resume in (False, True):
        with pytest.raises(InvalidOption, match="exists and is no run"):
            warm_start("tiny-test", [demos], mine, QUICK, device="cpu", resume=resume)
    assert [path.name for path in mine.rglob("*")] == ["model"]
    with pytest.raises(InvalidOption, match="exists and is no folder"):
        warm_start("tiny-test", [demos], demos, QUICK, device="cpu")
    (mine / "config.json").write_text("torn")
    with pytest.raises(CorruptData, match="is not JSON"):
        warm_start("tiny-test", [demos], mine, QUICK, device="cpu", resume=True)


def test_a_tiny_model_follows_the_seed_and_the_words_of_the_rows(demos: Path, tmp_path: Path) -> None:
    still = {"lr": 0.0, "batch_tokens": 10**4}
    one, other = (
        load_model(str(warm_start("tiny-test", [demos], tmp_path / str(seed), SFTSettings(seed=seed, **still))))
        for seed in (0, 1)
    )
    assert fingerprint(one[0]) != fingerprint(other[0])
    texts = [text for row in ROWS for text in (row["messages"][0]["content"], row["completion"])]
    assert one[1].get_vocab() == train_tokenizer(texts).get_vocab()
    demos.write_text(json.dumps({**ROWS[0], "completion": "no " * 1100}) + "\n")
    with pytest.raises(InvalidOption, match="and the model reads 1024"):
        warm_start("tiny-test", [demos], tmp_path / "long", SFTSettings())


def test_a_run_of_an_older_release_is_gone_on_with(demos: Path, tmp_path: Path) -> None:
    folder = warm_start("tiny-test", [demos], tmp_path / "run", QUICK, device="cpu")
    path = tmp_path / "run" / "config.json"
    old = json.loads(path.read_text())
    for name in ("validation", "gradient_checkpointing", "template_options", "validate_every"):
        del old[name]
    path.write_text(json.dumps(old))
    assert warm_start("tiny-test", [demos], tmp_path / "run", QUICK, device="cpu", resume=True) == folder


def test_files_that_cannot_be_used_are_refused(tmp_path: Path, demos: Path) -> None:
    with pytest.raises(MissingData, match="sdar demos"):
        warm_start("tiny-test", [tmp_path / "none.jsonl"], tmp_path / "run", QUICK)
    with pytest.raises(MissingData, match="sdar demos"):
        warm_start("tiny-test", [demos], tmp_path / "run", QUICK, validation=[tmp_path / "none.jsonl"])
    demos.write_text("no json\n")
    with pytest.raises(CorruptData, match="line 1"):
        warm_start("tiny-test", [demos], tmp_path / "run", QUICK, device="cpu")
    assert default_settings("tiny-1m") == TINY_SFT
    assert default_settings("some/model") == SFTSettings()
