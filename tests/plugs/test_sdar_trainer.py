"""`SDARTrainer`: TRL's GRPO with SDAR's term, whose loss and gradient are those of this package."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.pages import blocks, run_block
from helpers.tiny_models import VOCABULARY, gradients, largest_difference, random_rows, scored_batch, tiny_model
from helpers.trl_batches import AGGREGATIONS, trl_inputs
from helpers.trl_models import save_tiny_qwen

from sdar_agents.algorithms import OPSD, RLSD, SDAR, UCOB, GRPOWithOPSD, SkillGRPO, SkillSD
from sdar_agents.scoring.batch import make_batch
from sdar_agents.scoring.logprobs import score
from sdar_agents.scoring.options import ScoringOptions
from sdar_agents.skill_use.prompts import SkillPrompts
from sdar_agents.types import Row
from sdar_envs import tasks
from sdar_envs.errors import InvalidOption
from sdar_envs.integrations.trl import ALFWorldTools, EpisodeRollouts, make_dataset
from sdar_skills import Library, make_retriever

pytestmark = [pytest.mark.plugs, pytest.mark.filterwarnings("default")]

ENV = "sdar/ALFWorld-v0"
LIMIT = 9
QUIET = {"use_cpu": True, "bf16": False, "report_to": "none", "save_strategy": "no", "disable_tqdm": True}


class Nobody:
    """A teacher for trainers that generate nothing."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_qwen(tmp_path_factory.mktemp("model"))


def word_trainer(folder: Path, distiller: Any, **settings: Any) -> Any:
    """A trainer of `tiny_model` in float64, whose tokens are words."""
    import trl
    from datasets import Dataset
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

    from sdar_agents.integrations.trl import SDARTrainer

    words = {f"w{i}": i for i in range(VOCABULARY)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="w0")), pad_token="w0", eos_token="w1"
    )
    tiny_model().save_pretrained(folder / "model")
    arguments = trl.GRPOConfig(
        output_dir=str(folder / "run"),
        per_device_train_batch_size=2,
        num_generations=2,
        max_completion_length=LIMIT,
        disable_dropout=True,
        gradient_checkpointing=False,
        **QUIET,
        **settings,
    )
    return SDARTrainer(
        model=Qwen2ForCausalLM.from_pretrained(folder / "model", dtype=torch.float64),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": ["w2 w3"] * 4}),
        processing_class=tokenizer,
        teacher=Nobody(),
        distiller=distiller,
    )


METHODS = {
    "sdar": SDAR(distill_coef=0.5),
    "entropy gate": SDAR(distill_coef=0.5, gate="soft_or_clamped"),
    "open gate": SDAR(distill_coef=0.5, gate_detach=False, gate_center=True),
    "skill_sd": SkillSD(distill_coef=0.5),
    "grpo_opsd": GRPOWithOPSD(distill_coef=0.5),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("loss_type", AGGREGATIONS)
def test_loss_and_gradient_are_ours(tmp_path: Path, loss_type: str, method: str) -> None:
    rows = random_rows(8, empty=False)
    batch = scored_batch(rows, noise=0.8).replace(sampler_logprobs=None)
    trainer = word_trainer(tmp_path, METHODS[method], loss_type=loss_type, beta=0.0, epsilon=0.2, delta=3.0)
    model = trainer.model.eval()
    inputs = trl_inputs(batch, rows) | {
        "teacher_per_token_logps": batch.teacher_logprobs,
        "has_teacher": batch.has_teacher,
    }
    theirs = trainer._compute_loss(model, inputs)
    theirs.backward()
    their_gradients = gradients(model)

    aggregation: Any = AGGREGATIONS[loss_type]
    algorithm = replace(METHODS[method], kl_coef=0.0, aggregation=aggregation, response_limit=LIMIT)
    weighed = batch.weighed(algorithm.aggregation, response_limit=LIMIT)
    scores = score(model, batch.student, batch.mask, algorithm.scoring_options(ScoringOptions()))
    output = algorithm.loss(weighed, scores, log_vocabulary=float(torch.tensor(float(VOCABULARY)).log()))
    output.loss.backward()
    our_gradients = gradients(model)
    assert float(output.parts["distill"].detach().abs()) > 1e-3
    # TRL's log-probs are float32, and luspo sums the errors of up to LIMIT tokens. The weights are float64, because
    # matrix products in float32 would differ by more, and by another amount on every processor.
    tolerance = 1e-6 * (LIMIT if loss_type == "luspo" else 1)
    assert theirs.item() == pytest.approx(output.loss.item(), rel=0, abs=tolerance)
    scale = max(float(g.abs().max()) for g in our_gradients)
    assert largest_difference(our_gradients, their_gradients) < 5e-6 * max(scale, 1.0)


def test_tokens_of_tools_and_rows_without_a_teacher_have_no_term(tmp_path: Path) -> None:
    rows = random_rows(8, empty=False)
    batch = scored_batch(rows, noise=0.8)
    trainer = word_trainer(tmp_path, SDAR(distill_coef=0.5), loss_type="dapo", beta=0.0)
    model = trainer.model.eval()
    tools = torch.zeros_like(batch.mask)
    tools[:, 1] = True
    teachers = torch.arange(len(batch)) % 2 == 0
    inputs = trl_inputs(batch, rows) | {"tool_mask": (~tools).long(), "has_teacher": teachers}
    losses = {}
    for name, noise in (("plain", 0.0), ("elsewhere", 5.0)):
        changed = batch.teacher_logprobs + noise * (tools | ~teachers[:, None])
        losses[name] = trainer._compute_loss(model, inputs | {"teacher_per_token_logps": changed}).item()
    assert losses["plain"] == losses["elsewhere"]
    changed = batch.teacher_logprobs + 5.0
    assert trainer._compute_loss(model, inputs | {"teacher_per_token_logps": changed}).item() != losses["plain"]


@pytest.mark.parametrize(
    ("distiller", "told"),
    [
        (SDAR(kl_coef=0.5), "kl_coef is a setting of GRPO's part"),
        (OPSD(), "pg_coef is a setting of GRPO's part"),
        (SDAR(divergence="rkl_full"), "the whole vocabulary"),
        (SDAR(gate="entropy", gate_detach=False), "entropies have no gradient"),
        (RLSD(), "wanted one that adds a term"),
        (UCOB(), "UCOB has .*advantages.* of its own"),
        (SkillGRPO(), "wanted one that adds a term"),
    ],
)
def test_what_cannot_be_a_term_of_trls_loss_is_refused(tmp_path: Path, distiller: Any, told: str) -> None:
    with pytest.raises(InvalidOption, match=told):
        word_trainer(tmp_path, distiller)


def test_the_factor_of_the_term_has_its_schedule(tmp_path: Path) -> None:
    rows = random_rows(8, empty=False)
    batch = scored_batch(rows, noise=0.8)
    trainer = word_trainer(tmp_path, SDAR(distill_coef=0.5, distill_last_step=3), loss_type="dapo", beta=0.0)
    inputs = trl_inputs(batch, rows) | {
        "teacher_per_token_logps": batch.teacher_logprobs,
        "has_teacher": batch.has_teacher,
    }
    losses = []
    for step in (0, 2, 3):
        trainer.state.global_step = step
        losses.append(trainer._compute_loss(trainer.model.eval(), inputs).item())
    trainer.distiller = SDAR(distill_coef=0.0)
    without = trainer._compute_loss(trainer.model, inputs).item()
    assert losses == [losses[0], losses[0], without]
    assert losses[0] != without


def test_another_trl_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import trl

    monkeypatch.setattr(trl, "__version__", "1.17.2")
    with pytest.raises(InvalidOption, match=r"written against TRL 1\.16, and 1\.17\.2 is installed: pip install"):
        word_trainer(tmp_path, None)


# -- whole runs -------------------------------------------------------------------------------


def run(model: Path, folder: Path, *, way: str, trainer: str = "SDARTrainer", **more: Any) -> Any:
    """Three steps of a random model, whose every episode has reward 0."""
    import trl

    from sdar_agents.integrations.trl import SDARTrainer, SkillTeacher

    tools = way == "tools"
    arguments = trl.GRPOConfig(
        output_dir=str(folder / trainer),
        max_steps=3,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        num_generations=4,
        max_completion_length=48,
        learning_rate=1e-3,
        logging_steps=1,
        **QUIET,
    )
    dataset = make_dataset(ENV, split="valid_unseen", limit=3, for_rollouts=not tools)
    common: dict[str, Any] = {"model": str(model), "args": arguments, "train_dataset": dataset}
    if tools:
        common |= {"environment_factory": partial(ALFWorldTools, split="valid_unseen")}
    else:
        common |= {
            "rollout_func": EpisodeRollouts(ENV, turn_tokens=12, split="valid_unseen"),
            "reward_funcs": lambda completions, episode_return, **_: episode_return,
        }
    if trainer == "SDARTrainer":
        teacher = SkillTeacher(ENV, action_format="tools" if tools else None, split="valid_unseen")
        made = SDARTrainer(**common, teacher=teacher, **more)
    else:
        made = trl.GRPOTrainer(**common)
    made.train()
    return made


def logged(trainer: Any, name: str) -> list[float]:
    return [row[name] for row in trainer.state.log_history if name in row]


@pytest.mark.parametrize("way", ["tools", "rollouts"])
def test_a_teacher_moves_a_model_that_wins_nothing(way: str, model: Path, tmp_path: Path) -> None:
    plain = run(model, tmp_path, way=way, trainer="GRPOTrainer")
    assert logged(plain, "grad_norm") == [0.0] * 3
    taught = run(model, tmp_path, way=way)
    assert min(logged(taught, "grad_norm")) > 0
    assert all(share == 1.0 for share in logged(taught, "distill/has_teacher"))
    assert all(0 < gate < 1 for gate in logged(taught, "distill/gate"))
    silent = run(model, tmp_path, way=way, distiller=SDAR(distill_coef=0.0))
    assert logged(silent, "grad_norm") == [0.0] * 3


@pytest.mark.parametrize("way", ["tools", "rollouts"])
def test_teachers_read_skills_and_score_the_same_tokens(way: str, model: Path, tmp_path: Path) -> None:
    trainer = run(model, tmp_path, way=way)
    rows = [dict(trainer.train_dataset[0]) for _ in range(4)]
    seen: list[list[int]] = []
    tokenize = trainer._tokenize_prompts
    trainer._tokenize_prompts = lambda prompts: seen.append(prompts) or tokenize(prompts)
    output = trainer._generate_and_score_completions(rows)
    student, teacher = ([prompt[-1]["content"] for prompt in prompts] for prompts in seen)
    skills = make_retriever("task_type", Library.load()).retrieve(
        tasks(ENV, split="valid_unseen", limit=1)[0], 6, None, None
    )
    for skill in (item.skill for item in skills):
        assert all(skill.text in text for text in teacher)
        assert not any(skill.text in text for text in student)
    first = tokenize(seen[1])[0][0]
    lengths = output["completion_mask"].sum(dim=1).tolist()
    ours = make_batch(
        [
            Row(prompt_ids=tuple(first), response_ids=tuple(ids[:length].tolist()))
            for ids, length in zip(output["completion_ids"], lengths, strict=True)
        ],
        pad_id=0,
    )
    scores = score(trainer.model.eval(), ours.student, ours.mask).logprobs
    width = scores.shape[1]
    torch.testing.assert_close(
        scores[ours.mask], output["teacher_per_token_logps"][:, :width][ours.mask], atol=1e-4, rtol=0
    )


def test_controls_have_no_teacher(model: Path, tmp_path: Path) -> None:
    from sdar_agents.integrations.trl import SkillTeacher

    skills = SkillPrompts(make_retriever("task_type", Library.load()), control_members=1)
    teacher = SkillTeacher(ENV, skills=skills, split="valid_unseen")
    task = tasks(ENV, split="valid_unseen", limit=1)[0]
    assert teacher.messages(task.id, member=0, group_size=4) is not None
    assert teacher.messages(task.id, member=3, group_size=4) is None
    with pytest.raises(InvalidOption, match="legacy_prefix"):
        SkillTeacher(ENV, skills=SkillPrompts(skills.retriever, placement="legacy_prefix"))


def test_the_page(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The programs of docs/plugs/trl.md, with a tiny model and one step."""
    monkeypatch.chdir(tmp_path)
    tools, several, rollouts, sdar = blocks("trl.md")
    here = 'output_dir="runs/trl", use_cpu=True, bf16=False, report_to="none", per_device_train_batch_size=2'
    values = {
        "Qwen/Qwen3-0.6B": str(model),
        'output_dir="runs/trl"': here,
        "max_completion_length=8192": "max_completion_length=24",
        "num_generations=8": "num_generations=2",
        "max_steps=100": "max_steps=1",
        "limit=1000": "limit=2",
    }
    for code, more in ((tools, {}), (rollouts, {"turn_tokens=512": "turn_tokens=8"}), (sdar, {})):
        assert run_block(code, {**values, **more})["trainer"].state.global_step == 1
    assert len(run_block(several, {"limit=1000": "limit=2"})["dataset"]) == 6
