"""A causal language model in this process as a policy: batched generation that keeps ids and log-probabilities.

Prompts of like length form batches, padded on the left; keys and values are cached; rows that have ended leave the
batch. A token is drawn by inverting the cumulative probabilities of `softmax(logits / temperature)` at a number that
comes from the row's own seed alone. So

- the same batch always gives the same ids and log-probabilities, on one machine with one number of threads;
- a row in another batch has logits that differ by rounding (about 1e-6 for a float32 model, 0.1 for bfloat16), so its
  draws stay the same unless a number falls into such a gap, which float32 makes as rare as that;
- torch's random state is neither read nor changed.

Log-probabilities are computed in float32 (float64 for a float64 model). Nothing else shapes the distribution: the
generation settings that a model brings along, other than its end tokens, do not apply.

It refuses prompts that leave no room in the model's context, and models whose logits are not finite.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from sdar_agents.engines.policy import Messages, Request, Sampling, encode_rendered, render_chat
from sdar_agents.scoring.batch import pack_by_length
from sdar_agents.types import Completion, StopReason
from sdar_envs.core import is_integer
from sdar_envs.errors import InvalidOption

__all__ = ["TransformersPolicy", "choose_device", "load_model", "without_bars"]

_STAY = 7 / 8
"""Rows that have ended are taken out when no more than this share still runs: taking out copies the cache."""


_ROOM = 64
"""Tokens that the cache has room for beyond those that are in it."""


class TransformersPolicy:
    """Answers by a Hugging Face causal language model.

    The model is used as it is at each call, so it may be trained between calls. It generates in evaluation mode and is
    given back in the mode that it was in.

    Args:
        model: the model, or peft around one.
        tokenizer: its tokenizer, with a chat template.
        template_options: for the chat template, such as `{"enable_thinking": False}`.
        max_batch_tokens: of a batch: rows times the longest prompt and completion. It bounds the cache.
        autocast: type of the matrix products, as in training; None for that of the weights.

    Raises:
        InvalidOption: there is no chat template or no end token, or the tokenizer has tokens that the model has not.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        template_options: Mapping[str, Any] = MappingProxyType({}),
        max_batch_tokens: int = 1 << 17,
        autocast: torch.dtype | None = None,
    ) -> None:
        if not is_integer(max_batch_tokens) or max_batch_tokens < 1:
            raise InvalidOption(f"max_batch_tokens is {max_batch_tokens!r}; wanted a number from 1.")
        if getattr(tokenizer, "chat_template", None) is None:
            raise InvalidOption(
                f"the tokenizer {tokenizer.name_or_path!r} has no chat template: choose a model that was tuned for "
                "chat, or set tokenizer.chat_template."
            )
        ends = _end_tokens(model, tokenizer)
        if not ends:
            raise InvalidOption(
                f"neither the tokenizer {tokenizer.name_or_path!r} nor its model names an end token: set "
                "tokenizer.eos_token, so that completions can end."
            )
        known = model.get_input_embeddings().num_embeddings
        if len(tokenizer) > known:
            raise InvalidOption(
                f"the tokenizer has {len(tokenizer)} tokens, the model knows {known}: they do not belong together, or "
                "model.resize_token_embeddings(len(tokenizer)) is missing."
            )
        self.model = model
        self.tokenizer = tokenizer
        self.max_batch_tokens = int(max_batch_tokens)
        self._template_options = dict(template_options)
        self._autocast = autocast
        self._ends = ends
        self._pieces: dict[int, str] = {}
        # transformers has renamed the argument in 5.24.
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        is_renamed = "cache" in inspect.signature(inner.forward).parameters
        self._cache_name = "cache" if is_renamed else "past_key_values"

    @classmethod
    def load(
        cls, model: str, *, device: str | None = None, dtype: str | None = None, **settings: Any
    ) -> TransformersPolicy:
        """Make a policy of a folder or a name on the hub: `load_model`, then the constructor with `settings`."""
        return cls(*load_model(model, device=device, dtype=dtype), **settings)

    @property
    def context_length(self) -> int | None:
        """How many positions the model has; None if its configuration does not say."""
        length = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return length if is_integer(length) else None

    def render(self, messages: Messages) -> str:
        """Return messages by the chat template, up to where the answer begins."""
        return render_chat(self.tokenizer, messages, self._template_options)

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the ids of a rendered text, with nothing added."""
        return encode_rendered(self.tokenizer, text)

    def decode(self, token: int) -> str:
        """Return the text of one token."""
        if token not in self._pieces:
            self._pieces[token] = self.tokenizer.decode([token])
        return self._pieces[token]

    def generate(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        *,
        progress: Callable[[int], object] | None = None,
    ) -> list[Completion]:
        """Answer, see `Policy` and the module.

        Args:
            requests: with `prompt_ids`.
            sampling: how tokens are drawn.
            progress: called with the number of requests answered after each batch.

        Raises:
            InvalidOption: a prompt is empty or leaves no room in the model's context, or the logits are not finite.
        """
        context = self.context_length
        for request in requests:
            if not request.prompt_ids:
                raise InvalidOption("a prompt is empty; the first token of an answer needs a token before it.")
            if context is not None and len(request.prompt_ids) + sampling.max_new_tokens > context:
                raise InvalidOption(
                    f"a prompt of {len(request.prompt_ids)} tokens and an answer of {sampling.max_new_tokens} exceed "
                    f"the model's {context}: lower max_new_tokens or the length of prompts."
                )
        answers: list[Completion | None] = [None] * len(requests)
        lengths = [len(request.prompt_ids) + sampling.max_new_tokens for request in requests]
        was_training = self.model.training
        self.model.eval()
        try:
            for group in pack_by_length(lengths, self.max_batch_tokens):
                batch = _Batch(self, [requests[i] for i in group], sampling)
                for i, answer in zip(group, batch.run(), strict=True):
                    answers[i] = answer
                if progress is not None:
                    progress(len(group))
        finally:
            self.model.train(was_training)
        return [answer for answer in answers if answer is not None]

    @torch.inference_mode()
    def forward(self, ids: Tensor, mask: Tensor | None, positions: Tensor, cache: Any) -> Tensor:
        """Return the logits `(B, V)` behind the last of `ids` `(B, T)`; the cache takes these tokens in."""
        is_casting = self._autocast is not None
        with torch.autocast(ids.device.type, dtype=self._autocast) if is_casting else nullcontext():
            output = self.model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                use_cache=True,
                logits_to_keep=1,
                **{self._cache_name: cache},
            )
        logits: Tensor = output.logits[:, -1]
        return logits

    def stop_reason(self, ids: Sequence[int], sampling: Sampling) -> StopReason | None:
        """Return why a completion ends with the last of its ids; None if it does not."""
        if ids[-1] in self._ends:
            return "eos"
        if sampling.stop and self._stops(ids, sampling.stop):
            return "stop"
        return "length" if len(ids) == sampling.max_new_tokens else None

    def _stops(self, ids: Sequence[int], stop: Sequence[str]) -> bool:
        piece = self.decode(ids[-1])
        # Most tokens cannot end a stop string, which is cheap to see. A character may be spread over tokens.
        if not any(text[-1] in piece for text in stop) and "\ufffd" not in piece:
            return False
        tail = self.tokenizer.decode(list(ids[-1 - max(len(text.encode()) for text in stop) :]))
        return any(text in tail for text in stop)


class _Batch:
    """Rows that are generated together."""

    def __init__(self, policy: TransformersPolicy, requests: Sequence[Request], sampling: Sampling) -> None:
        self._policy = policy
        self._sampling = sampling
        self._prompts = [request.prompt_ids for request in requests]
        self._draws = [random.Random(request.seed).random for request in requests]
        self._ids: list[list[int]] = [[] for _ in requests]
        self._logprobs: list[list[float]] = [[] for _ in requests]
        self._reasons: list[StopReason | None] = [None] * len(requests)

    def run(self) -> list[Completion]:
        """Generate until all rows have ended."""
        policy = self._policy
        device = next(policy.model.parameters()).device
        # Members of a group begin alike: each prompt is read once.
        places = {prompt: place for place, prompt in enumerate(dict.fromkeys(self._prompts))}
        lengths = torch.tensor([len(prompt) for prompt in places])
        width = int(lengths.max())
        ids = torch.zeros(len(places), width, dtype=torch.long)  # padded with any token: the mask hides it
        for row, prompt in zip(ids, places, strict=True):
            row[width - len(prompt) :] = torch.tensor(prompt)
        mask = (torch.arange(width) >= width - lengths[:, None]).long()
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        # Without padding there is nothing to hide, and attention is faster without a mask.
        is_padded = bool((lengths < width).any())
        ids, mask, positions = ids.to(device), mask.to(device), positions.to(device)
        memory = _roomy_cache(policy.model.config)
        logits = policy.forward(ids, mask if is_padded else None, positions, memory)
        if len(places) < len(self._prompts):
            index = torch.tensor([places[prompt] for prompt in self._prompts], device=device)
            memory.batch_select_indices(index)
            logits, positions, mask = logits[index], positions[index], mask[index]
        rows = list(range(len(self._prompts)))
        while True:
            tokens = self._choose(logits, rows)
            kept = [place for place, row in enumerate(rows) if self._reasons[row] is None]
            if not kept:
                return self._completions()
            ids, positions = tokens[:, None], positions[:, -1:] + 1
            if len(kept) <= _STAY * len(rows):
                index = torch.tensor(kept, device=device)
                memory.batch_select_indices(index)
                ids, positions, mask = ids[index], positions[index], mask[index]
                rows = [rows[place] for place in kept]
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
            logits = policy.forward(ids, mask if is_padded else None, positions, memory)

    def _choose(self, logits: Tensor, rows: Sequence[int]) -> Tensor:
        """Choose the next token `(B,)` of each row, by its logits `(B, V)`, and keep it if the row still runs."""
        sampling = self._sampling
        logprobs = logits.to(torch.promote_types(logits.dtype, torch.float32))
        logprobs = torch.log_softmax(logprobs if sampling.temperature == 1.0 else logprobs / sampling.temperature, -1)
        if sampling.greedy:
            tokens = logprobs.argmax(dim=-1)
        else:
            # A double would round to 1 - 2**-53 at most; after the product that may be the whole sum.
            draws = [min(self._draws[row](), 1 - 2**-40) for row in rows]
            tokens = invert(logprobs, torch.tensor(draws, dtype=torch.float64, device=logits.device))
        chosen = logprobs.gather(1, tokens[:, None])[:, 0]
        if not bool(chosen.isfinite().all()):
            raise InvalidOption("the model's logits are not finite: its weights are broken; go back to a checkpoint.")
        for row, token, logprob in zip(rows, tokens.tolist(), chosen.tolist(), strict=True):
            if self._reasons[row] is None:
                self._ids[row].append(token)
                self._logprobs[row].append(logprob)
                self._reasons[row] = self._policy.stop_reason(self._ids[row], sampling)
        return tokens

    def _completions(self) -> list[Completion]:
        texts = self._policy.tokenizer.batch_decode(self._ids, skip_special_tokens=True)
        return [
            Completion(tuple(ids), tuple(logprobs), text, reason or "length")
            for ids, logprobs, text, reason in zip(self._ids, self._logprobs, texts, self._reasons, strict=True)
        ]


def _roomy_cache(config: Any) -> Any:
    """Return a cache whose full-attention layers have room ahead: transformers' copy all of it for each token."""
    from transformers.cache_utils import DynamicCache, DynamicLayer  # noqa: PLC0415

    made = DynamicCache(config=config)
    roomy = _roomy_layer()
    made.layers = [roomy() if type(layer) is DynamicLayer else layer for layer in made.layers]
    return made


@cache
def _roomy_layer() -> Any:
    from transformers.cache_utils import DynamicLayer  # noqa: PLC0415

    class RoomyLayer(DynamicLayer):
        """Keys and values `(B, heads, T, d)` are the beginning of larger tensors."""

        room: tuple[Tensor, Tensor] | None = None

        def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
            """Take in the next tokens; return all."""
            start: int = self.get_seq_length()
            end = start + key_states.shape[-2]
            if self.room is None or self.room[0].shape[-2] < end:
                old = (self.keys, self.values) if start else (None, None)
                self.room = (_with_room(key_states, old[0], end), _with_room(value_states, old[1], end))
                self.is_initialized = True
            for part, states in zip(self.room, (key_states, value_states), strict=True):
                part[..., start:end, :] = states
            self.keys, self.values = (part[..., :end, :] for part in self.room)
            return self.keys, self.values

        def batch_select_indices(self, indices: Tensor) -> None:
            """Keep some rows; the next token makes room anew."""
            super().batch_select_indices(indices)  # type: ignore[no-untyped-call]
            self.room = None

    return RoomyLayer


def _with_room(states: Tensor, old: Tensor | None, length: int) -> Tensor:
    """Return a tensor of the kind of `states` for `length` tokens and more, with `old` at its beginning."""
    part = states.new_empty(*states.shape[:-2], length + _ROOM, states.shape[-1])
    if old is not None:
        part[..., : old.shape[-2], :] = old
    return part


def invert(logprobs: Tensor, draws: Tensor) -> Tensor:
    """Return the tokens `(B,)` at which the cumulative probabilities first exceed the draws; none of probability 0.

    Args:
        logprobs: `(B, V)` nats.
        draws: `(B,)` float64 from 0 to below 1.
    """
    sums = logprobs.to(torch.float64).exp().cumsum(dim=-1)
    # Rounding may leave the whole sum a little off 1.
    return torch.searchsorted(sums, draws[:, None] * sums[:, -1:], right=True)[:, 0].clamp(max=logprobs.shape[1] - 1)


def load_model(model: str, *, device: str | None = None, dtype: str | None = None) -> tuple[Any, Any]:
    """Load a chat model and its tokenizer.

    Args:
        model: a folder, or a name on the hub.
        device: such as `cuda` or `cpu`; None for `cuda` if there is one, else `cpu`.
        dtype: of the weights, such as `bfloat16`; None for what the model was saved in.

    Returns:
        The model, in evaluation mode on the device, and the tokenizer.

    Raises:
        InvalidOption: it cannot be loaded, or the device has no float64, which sampling wants.
        ModuleNotFoundError: transformers is not installed.
    """
    try:
        import transformers  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "models in this process need transformers: pip install 'sdar-envs[transformers]'", name=error.name
        ) from error
    device = choose_device(device)
    try:
        with without_bars():
            tokenizer = transformers.AutoTokenizer.from_pretrained(model)
            loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=dtype or "auto")
        loaded = loaded.to(device).eval()
    except (OSError, ValueError, AttributeError, RuntimeError, AssertionError) as error:  # the last: no CUDA in torch
        raise InvalidOption(f"the model {model!r} cannot be loaded on {device} ({error}).") from error
    return loaded, tokenizer


def choose_device(device: str | None = None) -> str:
    """Return the name of a device that can be used: the one that is asked for, else `cuda` if it is there, else `cpu`.

    Raises:
        InvalidOption: it is Apple's.
    """
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.partition(":")[0] == "mps":
        raise InvalidOption(
            f"the device {device} has no float64, which sampling and the metrics are computed in: use cpu or cuda."
        )
    return device


@contextmanager
def without_bars() -> Iterator[None]:
    """Keep the progress bars of transformers away: they would tear ours, and fill logs."""
    from transformers.utils import logging  # noqa: PLC0415

    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    named = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ends = [named] if is_integer(named) else list(named or ())
    return frozenset(end for end in (*ends, tokenizer.eos_token_id) if end is not None)
