"""Fine-tuning: the loss by hand, cuts that change nothing, runs that resume bit for bit, a model that learns."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import tiny_model, tiny_tokenizer

from sdar_agents.checkpoints import Checkpoints
from sdar_agents.generation import load_model
from sdar_agents.sft import Examples, SFTSettings, encode_rows, fine_tune, plan_batches
from sdar_agents.tiny import TINY_SFT
from sdar_agents.warm_start import default_settings, warm_start
from sdar_agents.weights import fingerprint
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
    _, (line,) = train(settings, examples)
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
    assert [line["loss"] for line in rest] == [line["loss"] for line in lines[4:]]
    with pytest.raises(InvalidOption, match="resume with the same demonstrations and settings"):
        train(SFTSettings(epochs=1), examples, resume_from=checkpoint)


def test_a_loss_that_is_not_finite_stops_the_run(examples: Examples) -> None:
    broken = model()
    with torch.no_grad():
        broken.lm_head.weight[3, 3] = float("nan")
    with pytest.raises(RunStopped, match="the gradient of step 1 is nan"):
        train(SFTSettings(), examples, trained=broken)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "there are no demonstrations"),
        ([ROWS[0], {"messages": ROWS[0]["messages"]}], "row 2 has no messages or no completion"),
        ([{"messages": [{"role": "user", "content": "x" * 99}], "completion": "y"}], "row 1 has 10"),
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
    with pytest.raises(InvalidOption, match="holds a run already"):
        warm_start("tiny-test", [demos], tmp_path / "cut", QUICK, device="cpu")
    with pytest.raises(InvalidOption, match="says other settings"):
        warm_start("tiny-test", [demos], tmp_path / "cut", SFTSettings(), device="cpu", resume=True)
    cut = warm_start("tiny-test", [demos], tmp_path / "cut", QUICK, device="cpu", resume=True)
    assert fingerprint(load_model(str(cut))[0]) == fingerprint(load_model(str(whole))[0])
    steps = [json.loads(line)["step"] for line in (tmp_path / "cut" / "sft.jsonl").read_text().splitlines()]
    assert steps == list(range(1, steps[-1] + 1))


def test_files_that_cannot_be_used_are_refused(tmp_path: Path, demos: Path) -> None:
    with pytest.raises(MissingData, match="sdar demos"):
        warm_start("tiny-test", [tmp_path / "none.jsonl"], tmp_path / "run", QUICK)
    demos.write_text("no json\n")
    with pytest.raises(CorruptData, match="line 1"):
        warm_start("tiny-test", [demos], tmp_path / "run", QUICK, device="cpu")
    assert default_settings("tiny-1m") == TINY_SFT
    assert default_settings("some/model") == SFTSettings()
