"""GRPO's loss and gradient equal TRL's on the same batch, for the settings that both have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_models import PAD, VOCABULARY, gradients, largest_difference, random_rows, scored_batch, tiny_model
from helpers.trl_batches import AGGREGATIONS, trl_inputs

from sdar_agents.algorithms import make_algorithm
from sdar_agents.scoring.batch import make_batch
from sdar_agents.scoring.logprobs import score
from sdar_agents.scoring.options import ScoringOptions

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("default")]
LIMIT = 9


def trl_trainer(folder: Path, **settings: Any) -> Any:
    """A trainer of `tiny_model` in float64, where the order of sums does not matter, whose tokens are words."""
    trl = pytest.importorskip("trl", reason="TRL is not installed: pip install '.[peer]'")
    from datasets import Dataset
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

    words = {f"w{i}": i for i in range(VOCABULARY)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="w0")), pad_token="w0", eos_token="w1"
    )
    # From a folder: TRL loads the reference model from where the model came.
    tiny_model().save_pretrained(folder / "model")
    arguments = trl.GRPOConfig(
        output_dir=str(folder / "run"),
        use_cpu=True,
        report_to="none",
        per_device_train_batch_size=2,
        num_generations=2,
        max_completion_length=LIMIT,
        disable_dropout=True,
        bf16=False,
        gradient_checkpointing=False,
        **settings,
    )
    return trl.GRPOTrainer(
        model=Qwen2ForCausalLM.from_pretrained(folder / "model", dtype=torch.float64),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": ["w2 w3"] * 4}),
        processing_class=tokenizer,
    )


@pytest.mark.parametrize("loss_type", AGGREGATIONS)
@pytest.mark.parametrize(
    ("kl_coef", "dual_clip", "entropy_coef"), [(0.0, None, 0.0), (0.1, 3.0, 0.0), (0.1, 3.0, 0.01)]
)
def test_grpo_is_trls(
    tmp_path: Path, loss_type: str, kl_coef: float, dual_clip: float | None, entropy_coef: float
) -> None:
    aggregation: Any = AGGREGATIONS[loss_type]
    if entropy_coef and aggregation != "token-mean":
        pytest.skip(
            "TRL averages the entropy over tokens, whatever the aggregation; here all terms are aggregated alike"
        )
    rows = random_rows(8, empty=False)
    batch = scored_batch(rows, noise=0.8)
    trainer = trl_trainer(
        tmp_path,
        loss_type=loss_type,
        beta=kl_coef,
        use_bias_correction_kl=False,
        epsilon=0.2,
        epsilon_high=0.3,
        delta=dual_clip,
        entropy_coef=entropy_coef,
    )
    model = trainer.model.eval()
    if trainer.ref_model is not None:
        trainer.ref_model.eval()
    theirs = trainer._compute_loss(model, trl_inputs(batch, rows))
    theirs.backward()
    their_gradients = gradients(model)

    algorithm = make_algorithm(
        "grpo",
        suite="alfworld",
        clip_high=0.3,
        kl_coef=kl_coef,
        dual_clip=dual_clip,
        entropy_coef=entropy_coef,
        aggregation=aggregation,
        response_limit=LIMIT,
        sampler_cap=None,
    )
    weighed = batch.weighed(algorithm.aggregation, response_limit=LIMIT)
    output = algorithm.loss(weighed, score(model, batch.student, batch.mask, ScoringOptions(entropies=True)))
    output.loss.backward()
    our_gradients = gradients(model)
    assert output.loss.item() == pytest.approx(theirs.item(), rel=1e-5, abs=1e-6)
    scale = max(float(g.abs().max()) for g in their_gradients)
    assert largest_difference(our_gradients, their_gradients) < 1e-5 * max(scale, 1.0)
    assert output.metrics["policy/clip_fraction"].total > 0
    if dual_clip is not None:
        assert output.metrics["policy/dual_clip_fraction"].total > 0


def test_log_probs_and_entropies_are_trls(tmp_path: Path) -> None:
    rows = random_rows(8, empty=False)
    batch = make_batch(rows, pad_id=PAD)
    trainer = trl_trainer(tmp_path)
    inputs = trl_inputs(scored_batch(rows), rows)
    theirs, entropies, _ = trainer._get_per_token_logps_and_entropies(
        trainer.model.eval(),
        torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1),
        torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1),
        batch.mask.shape[1],
        compute_entropy=True,
    )
    ours = score(
        trainer.model,
        batch.student,
        batch.mask,
        ScoringOptions(entropies=True, temperature=trainer.temperature),
    )
    assert ours.entropies is not None
    torch.testing.assert_close(ours.logprobs[batch.mask], theirs[batch.mask], atol=1e-5, rtol=0, check_dtype=False)
    torch.testing.assert_close(ours.entropies[batch.mask], entropies[batch.mask], atol=1e-5, rtol=0, check_dtype=False)
