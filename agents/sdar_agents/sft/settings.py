"""Settings of supervised fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from sdar_agents.settings.checks import check_settings, setting
from sdar_envs.errors import InvalidOption

__all__ = ["SFTSettings"]


@dataclass(frozen=True, kw_only=True)
class SFTSettings:
    """Optimiser, batches and logging of supervised fine-tuning.

    Attributes:
        lr: learning rate of AdamW, after the warm-up.
        warmup: share of the steps in which lr rises linearly.
        final_lr: lr at the end of the cosine schedule, as a share of `lr`.
        beta2: of AdamW.
        weight_decay: of AdamW, on matrices only.
        clip_norm: gradients with a larger norm are scaled down to it; null for never.
        epochs: passes over the rows.
        batch_tokens: padded tokens in an optimiser step.
        max_tokens: padded tokens in a micro-batch (gradient accumulation); decides memory, not the result.
        prompt_weight: weight of the prompt's tokens in the loss; those of the completion have weight 1.
        autocast: compute in bfloat16, with the weights as they are.
        gradient_checkpointing: recompute activations in the backward pass instead of keeping them.
        template_options: for the chat template, such as `{"enable_thinking": false}`; those of the later training.
        lora_rank: train LoRA adapters of this rank instead of all weights; null for the latter. Needs the extra `lora`.
        lora_alpha: adapters are scaled by `lora_alpha / lora_rank`.
        lora_targets: names of the layers that get an adapter, separated by commas; `all-linear` is all but the head.
        lora_blocks: only those in the last so many blocks of the transformer; null for all.
        seed: of the order of the rows and of the adapters' weights.
        log_every: steps between two lines of the log.
        save_every: steps between two checkpoints; 0 for none.
        validate_every: steps between two measurements on validation rows; 0 for only after the last step.
    """

    lr: float = setting(1e-5, low=0)
    warmup: float = setting(0.03, low=0, high=1)
    final_lr: float = setting(0.05, low=0, high=1)
    beta2: float = setting(0.98, low=0, high=0.99999)
    weight_decay: float = setting(0.01, low=0)
    clip_norm: float | None = setting(1.0, low=0)
    epochs: int = setting(1, low=1)
    batch_tokens: int = setting(16_384, low=1)
    max_tokens: int = setting(16_384, low=1)
    prompt_weight: float = setting(0.0, low=0)
    autocast: bool = False
    gradient_checkpointing: bool = False
    template_options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    lora_rank: int | None = setting(None, low=1)
    lora_alpha: int = setting(16, low=1)
    lora_targets: str = "all-linear"
    lora_blocks: int | None = setting(None, low=1)
    seed: int = setting(0, low=0)
    log_every: int = setting(20, low=1)
    save_every: int = setting(0, low=0)
    validate_every: int = setting(0, low=0)

    def __post_init__(self) -> None:
        check_settings(self)
        if self.lora_rank is None:
            idle = [field.name for field in fields(self) if field.name.startswith("lora_")]
            idle = [name for name in idle if getattr(self, name) != getattr(SFTSettings, name)]
            if idle:
                raise InvalidOption(f"{idle[0]} is given without lora_rank, which turns adapters on: give that too.")
