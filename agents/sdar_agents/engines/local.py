"""Local chat models as an `AsyncPolicy`: a model in this process, an engine, optional constrained decoding, batching.

For speed, serve the model with vLLM and use `sdar_agents.engines.servers.endpoint`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from sdar_agents.engines.batching import BatchingPolicy
from sdar_agents.engines.chat.reading import prefilled_of
from sdar_agents.engines.policy import Sampling
from sdar_agents.engines.registry import make_engine
from sdar_agents.engines.smollm2 import SMOLLM2
from sdar_agents.settings.checks import check_value
from sdar_envs.errors import InvalidOption
from sdar_envs.importing import import_extra

__all__ = ["LocalPolicy"]

_TOKENS = 512
_TOKENS_WITH_THOUGHT = 4_096


class LocalPolicy(BatchingPolicy):
    """A chat model in this process, through transformers and torch.

    An `AsyncPolicy`. The model is a causal language model with a chat template.

    Args:
        model: a folder, which may hold LoRA adapters; a name on the hub; or `smollm2`.
        engine: the inference engine: `transformers`, or `module:Class` for one of your own (see `make_engine`).
        constrained: constrained decoding: the model thinks freely, then the likeliest admissible command is taken (see
            `sdar_agents.engines.constrained`). Only with the engine `transformers`.
        temperature: of the sampling; 0 is greedy. What else the model's generation config says (top-p and the like)
            does not apply.
        max_tokens: of one completion, its thought included; None for 512, and for a model whose chat template knows
            `<think>` 4,096, or half of its context.
        batch_size: requests that are generated together at most.
        device: such as `cuda` or `cpu`; None for CUDA if there is a GPU, else the CPU.
        dtype: of the weights, such as `bfloat16`; None for what the model was saved in.
        template_options: for the chat template, such as `{"enable_thinking": False}`.

    Raises:
        InvalidOption: an argument is out of range, the model cannot be loaded, or it has no chat template.
        UnknownName: there is no such engine.
        MissingExtra: torch or transformers is not installed.
    """

    path_arguments: ClassVar[Mapping[str, Collection[str]]] = MappingProxyType({"model": (SMOLLM2,)})
    """Arguments that are paths (`sdar_envs.storage.absolute_arguments`)."""

    def __init__(
        self,
        model: str,
        *,
        engine: str = "transformers",
        constrained: bool = False,
        temperature: float = 0.0,
        max_tokens: int | None = None,
        batch_size: int = 16,
        device: str | None = None,
        dtype: str | None = None,
        template_options: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        check_value("temperature", temperature, float, low=0)
        check_value("max_tokens", max_tokens, int | None, low=1)
        check_value("constrained", constrained, bool)
        if constrained and engine != "transformers":
            raise InvalidOption(
                f"constrained decoding was asked of the engine {engine!r}; it scores commands with the engine "
                "'transformers' alone. Leave out one of the two settings."
            )
        for package in ("torch", "transformers"):
            import_extra(package, extra="transformers", purpose="a chat model in this process")
        # Deferred, because they import torch.
        from sdar_agents.engines.constrained import ConstrainedPolicy  # noqa: PLC0415
        from sdar_agents.engines.transformers import TransformersPolicy, load_model  # noqa: PLC0415

        loaded, tokenizer = load_model(model, device=device, dtype=dtype)
        self.device = str(loaded.device)
        policy = make_engine(engine, loaded, tokenizer, {"template_options": template_options})
        if constrained:
            assert isinstance(policy, TransformersPolicy)
            policy = ConstrainedPolicy(policy)
        if max_tokens is None:
            max_tokens = _TOKENS
            if prefilled_of(policy) or "<think>" in str(getattr(tokenizer, "chat_template", "")):
                max_tokens = min(_TOKENS_WITH_THOUGHT, (policy.context_length or 2 * _TOKENS_WITH_THOUGHT) // 2)
        self.max_tokens = int(max_tokens)
        sampling = Sampling(self.max_tokens, float(temperature) or 1.0, greedy=not temperature)
        super().__init__(policy, sampling, batch_size=batch_size)
