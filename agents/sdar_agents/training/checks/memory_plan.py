"""Memory plan of a training run: what each GPU holds, by arithmetic, before anything is loaded.

    plan = plan_memory(config, processes=8)
    print(plan.render(limit_gib=80))

Parameters are counted on a model without storage (torch's device `meta`), of the architecture that the model's
configuration says; that of the Qwen2.5 and Qwen3 models of the recipes is known here, so no hub is asked. With P the
parameters, P_t those that are trained, b the bytes of one, N the processes among which the model is sharded:

| part | bytes per GPU |
|---|---|
| weights, gradient | P b / N, P_t b / N |
| AdamW | 2 P_t b / N |
| reference, moving average, weights of the rollout | P_t b / N each, where the method and the teacher need them |
| gathered | what is outside of the layers, and two layers, with their gradients; only if N > 1 |
| activations | per token of a micro-batch a = 4 M + 8 H + 3 (n + 2 k) d numbers of each layer; with gradient \
checkpointing a of one layer and H of each |
| head | three chunks of logits in float32 |
| generation | the copy of the weights, and keys and values of the rows of a batch |

with H the width, M that of the feed-forward blocks, n and k the heads of queries and of keys, d their width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
import transformers

from sdar_agents.engines.loading_errors import adapted_model, loading_error
from sdar_agents.engines.smollm2 import SMOLLM2, smollm2_folder
from sdar_agents.scoring.options import CHUNK_ELEMENTS
from sdar_agents.training.config import TrainConfig

__all__ = ["ARCHITECTURES", "MemoryPlan", "architecture", "plan_memory"]

_GIB = 2**30
_BYTES = {"float32": 4, "bfloat16": 2, "float64": 8}
_PROMPT_TOKENS = 2048


def _qwen2(hidden: int, layers: int, heads: int, kv_heads: int, mlp: int, **other: Any) -> dict[str, Any]:
    return {
        "model_type": "qwen2",
        "vocab_size": 151_936,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": mlp,
        "tie_word_embeddings": True,
        **other,
    }


def _qwen3(hidden: int, layers: int, heads: int, mlp: int, **other: Any) -> dict[str, Any]:
    return _qwen2(hidden, layers, heads, 8, mlp, **{"model_type": "qwen3", "head_dim": 128, **other})


ARCHITECTURES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "Qwen/Qwen2.5-0.5B-Instruct": _qwen2(896, 24, 14, 2, 4864),
        "Qwen/Qwen2.5-1.5B-Instruct": _qwen2(1536, 28, 12, 2, 8960),
        "Qwen/Qwen2.5-3B-Instruct": _qwen2(2048, 36, 16, 2, 11_008),
        "Qwen/Qwen2.5-7B-Instruct": _qwen2(3584, 28, 28, 4, 18_944, vocab_size=152_064, tie_word_embeddings=False),
        "Qwen/Qwen3-0.6B": _qwen3(1024, 28, 16, 3072),
        "Qwen/Qwen3-1.7B": _qwen3(2048, 28, 16, 6144),
        "Qwen/Qwen3-4B": _qwen3(2560, 36, 32, 9728),
        "Qwen/Qwen3-8B": _qwen3(4096, 36, 32, 12_288, tie_word_embeddings=False),
    }
)
"""Configurations of published models, by name on the hub."""


def architecture(model: str) -> Any:
    """Return the configuration of a model: one of `ARCHITECTURES`, or that of a folder or of the hub.

    Of a folder with LoRA adapters it is that of their model, since they are merged into its weights.

    Raises:
        InvalidOption: it cannot be read.
        CorruptData: the configuration of adapters is no JSON.
    """
    model = adapted_model(model) or model
    if model in ARCHITECTURES:
        fields = dict(ARCHITECTURES[model])
        return transformers.AutoConfig.for_model(fields.pop("model_type"), **fields)
    folder = str(smollm2_folder()) if model == SMOLLM2 else model
    try:
        return transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # what the cause happens to run into
        raise loading_error(model, "cpu", error) from error


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Memory of each GPU of a run, in bytes by part.

    Attributes:
        model: its name.
        method: of the training.
        processes: number of them, one per GPU.
        parameters: of the model.
        trained: those that are trained, adapters included.
        kept: what is there all the time.
        rollout: in addition, while episodes are played.
        update: in addition, while gradients are computed.
        engine: of the rollouts.
    """

    model: str
    method: str
    processes: int
    parameters: int
    trained: int
    kept: Mapping[str, float]
    rollout: Mapping[str, float]
    update: Mapping[str, float]
    engine: str

    @property
    def peak(self) -> float:
        """The most bytes of a GPU that are in use at a time."""
        return sum(self.kept.values()) + max(sum(self.rollout.values()), sum(self.update.values()))

    def fits(self, limit_gib: float) -> bool:
        """Return whether a GPU of so many GiB is enough, with a tenth of it left for fragments and the libraries."""
        return self.peak <= 0.9 * limit_gib * _GIB

    def render(self, limit_gib: float) -> str:
        """Return the plan as a table, with a verdict for GPUs of so many GiB."""
        of = f"{self.processes} processes" if self.processes > 1 else "one process"
        lines = [
            f"{self.model}, {self.method}, {of}: {self.parameters / 1e9:.3f} billion parameters, "
            f"{self.trained / 1e9:.3f} trained; GiB per GPU",
        ]
        for title, parts in (("always", self.kept), ("rollout", self.rollout), ("update", self.update)):
            lines += [f"  {title:<8}{name:<42}{size / _GIB:>8.2f}" for name, size in parts.items() if size]
        kept = sum(self.kept.values())
        for title, parts in (("rollout", self.rollout), ("update", self.update)):
            lines.append(f"  {f'peak of the {title}':<50}{(kept + sum(parts.values())) / _GIB:>8.2f}")
        if self.engine != "transformers":
            lines.append(f"  The engine {self.engine} has its own memory, which is not counted here.")
        verdict = "fits" if self.fits(limit_gib) else "does not fit"
        lines.append(
            f"{verdict}: {self.peak / _GIB:.1f} GiB, of 90 % of {limit_gib:g} GiB; the rest is for fragments and CUDA"
        )
        return "\n".join(lines)


def plan_memory(config: TrainConfig, *, processes: int) -> MemoryPlan:
    """Compute the memory of a run.

    Args:
        config: of the run.
        processes: number of them, one per GPU.

    Raises:
        InvalidOption: the model's configuration cannot be read.
    """
    shape = architecture(config.model.path)
    text = shape.get_text_config()
    counts = _count(shape, config)
    settings, algorithm = config.learner, config.make_algorithm()
    size = _BYTES[config.model.dtype]
    shards = processes if settings.shard == "auto" else 1
    trained = counts.trained * size / shards
    snapshots = {
        "reference": (algorithm.needs_reference and not settings.reference_engine)
        or (algorithm.needs_teacher and settings.teacher == "frozen" and settings.teacher_scores == "learner"),
        "moving average of the teacher": algorithm.needs_teacher and settings.teacher == "ema",
        "weights of the rollout, for the teacher": algorithm.needs_teacher
        and settings.teacher == "old"
        and getattr(algorithm, "divergence", "sampled") != "sampled",
    }
    kept = {
        "weights": counts.all * size / shards,
        "AdamW": 2 * trained,
        **{name: trained for name, is_kept in snapshots.items() if is_kept},
    }
    # The trained model itself generates in one process, unless a copy in another type is asked for.
    engine = config.model.engine
    dtype = config.model.generation_dtype
    if engine != "vllm" and (processes > 1 or dtype is not None):
        kept["copy for generation"] = counts.plain * _BYTES[dtype or config.model.dtype]
    return MemoryPlan(
        model=config.model.path,
        method=config.method,
        processes=processes,
        parameters=counts.plain,
        trained=counts.trained,
        kept=kept,
        rollout={} if engine == "vllm" else _rollout_parts(config, text, processes),
        update=_update_parts(config, text, counts, trained, shards),
        engine=engine,
    )


@dataclass(frozen=True, slots=True)
class _Counts:
    """Parameters: of the model, with its adapters, trained, outside of the layers, of the largest layer."""

    plain: int
    all: int
    trained: int
    outside: int
    layer: int


def _count(shape: Any, config: TrainConfig) -> _Counts:
    with torch.device("meta"):
        model: Any = transformers.AutoModelForCausalLM.from_config(shape)  # type: ignore[no-untyped-call]
    plain = sum(parameter.numel() for parameter in model.parameters())
    names = set(getattr(model, "_no_split_modules", None) or ())
    layers = [
        sum(parameter.numel() for parameter in module.parameters())
        for module in model.modules()
        if type(module).__name__ in names
    ]
    trained, adapters = plain, 0
    lora = config.model.lora
    if lora is not None:
        wanted = None if lora.targets == "all-linear" else {name.strip() for name in lora.targets.split(",")}
        blocks = len(layers) if lora.blocks is None else lora.blocks
        adapters = sum(
            lora.rank * (module.in_features + module.out_features)
            for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear)
            and module is not model.get_output_embeddings()
            and (wanted is None or name.rpartition(".")[2] in wanted)
        )
        adapters = adapters * blocks // max(1, len(layers))
        trained = adapters
    return _Counts(plain, plain + adapters, trained, plain - sum(layers), max(layers, default=0))


def _update_parts(config: TrainConfig, text: Any, counts: _Counts, trained: float, shards: int) -> dict[str, float]:
    settings = config.learner
    size = _BYTES[config.model.dtype]
    computed = 2 if settings.autocast else size
    heads = text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    queries = (heads + 2 * text.num_key_value_heads) * width
    of_layer = computed * (4 * text.intermediate_size + 8 * text.hidden_size + 3 * queries)
    layers = text.num_hidden_layers
    tokens = settings.max_tokens
    parts = {"gradient": trained}
    if shards > 1:
        is_full = config.model.lora is None
        parts["gathered"] = (counts.outside + 2 * counts.layer) * size * (2 if is_full else 1)
    if settings.gradient_parts_every:
        parts["gradients of the terms (gradient_parts_every)"] = 3 * trained
    if settings.gradient_checkpointing:
        parts["activations"] = tokens * (layers * text.hidden_size * size + of_layer)
    else:
        parts["activations"] = tokens * layers * of_layer
    if settings.autocast and size != computed:
        copies = 1 if settings.gradient_checkpointing else layers
        parts["weights cast by autocast"] = copies * counts.layer * computed
    parts["head"] = 3 * CHUNK_ELEMENTS * 4 + text.vocab_size * text.hidden_size * computed
    return parts


def _rollout_parts(config: TrainConfig, text: Any, processes: int) -> dict[str, float]:
    rollout = config.rollout
    rows = -(-config.tasks_per_step // processes) * config.group_size
    length = (rollout.max_prompt_tokens or _PROMPT_TOKENS) + rollout.max_new_tokens
    tokens = min(rows * length, max(config.model.max_batch_tokens, length))
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    size = _BYTES[config.model.generation_dtype or config.model.dtype]
    at_once = max(1, min(rows, tokens // length))
    return {
        "keys and values": 2.0 * text.num_hidden_layers * text.num_key_value_heads * width * size * tokens,
        # Logits, log-probs, and their cumulative probabilities in float64.
        "sampling": 24.0 * at_once * text.vocab_size,
    }
