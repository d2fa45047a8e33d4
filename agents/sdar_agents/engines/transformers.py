"""Batched generation with Hugging Face transformers: KV cache, left padding, token ids and log-probabilities.

Prompts of similar length form batches, padded on the left; equal prompts are encoded once, and on a CPU what prompts
have in common at their beginning (`sdar_agents.engines.decoding`); rows that have ended leave the batch. A token is
sampled by inverse transform: the cumulative probabilities of `softmax(logits / temperature)` are inverted at a number
that depends on the row's own seed alone. So

- the same batch always gives the same ids and log-probabilities, on one machine with one number of threads;
- a row in another batch has logits that differ by rounding (about 1e-6 for a float32 model, 0.1 for bfloat16), so its
  ids stay the same unless a draw falls into such a gap, which is as rare as the gap is small;
- torch's random state is neither read nor changed.

Log-probabilities are computed in float32 (float64 for a float64 model). Nothing else changes the distribution: the
model's generation config does not apply, apart from its end tokens.

Prompts that leave no room in the context, and logits that are not finite, are errors.
"""

from __future__ import annotations

import inspect
import os
import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers.cache_utils import DynamicCache, DynamicLayer
from transformers.utils import logging

from sdar_agents.engines.chat.chat_template import ChatTemplate, Messages
from sdar_agents.engines.decoding import Decoder, make_decoder
from sdar_agents.engines.decoding_batches import decoding_batches, encoding_batches, step_tokens
from sdar_agents.engines.loading_errors import adapted_model, check_folder, check_tokenizer, loading_error
from sdar_agents.engines.policy import Request, Sampling
from sdar_agents.engines.smollm2 import SMOLLM2, smollm2_folder
from sdar_agents.scoring.prefix_tree import prefix_tree
from sdar_agents.settings.checks import check_value
from sdar_agents.types import Completion, StopReason
from sdar_envs.core import is_integer
from sdar_envs.errors import InvalidOption
from sdar_envs.importing import import_extra

__all__ = ["TransformersPolicy", "choose_device", "end_tokens", "load_model", "without_bars", "without_peft_warning"]

# Ended rows leave the batch when at most this share still runs, because removing rows copies the KV cache.
_LARGEST_RUNNING_SHARE = 7 / 8
# Positions that the KV cache allocates ahead.
_ALLOCATED_AHEAD = 64


class TransformersPolicy:
    """A `Policy` that generates with a Hugging Face causal language model.

    The model is used as it is at each call, so it may be trained between calls. It generates in evaluation mode and
    returns to the mode that it was in.

    Args:
        model: the model, or a peft model around one.
        tokenizer: its tokenizer, with a chat template.
        template_options: for the chat template, such as `{"enable_thinking": False}`.
        max_batch_tokens: rows times the longest prompt and completion of a batch; it bounds the KV cache.
        autocast: type of the matrix products, as in training; None for that of the weights.

    Raises:
        InvalidOption: there is no chat template or no end token, or the tokenizer has more tokens than the model.
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
        check_value("max_batch_tokens", max_batch_tokens, int, low=1)
        if getattr(tokenizer, "chat_template", None) is None:
            raise InvalidOption(
                f"the tokenizer {tokenizer.name_or_path!r} has no chat template: choose a model that was tuned for "
                "chat, or set tokenizer.chat_template."
            )
        ends = end_tokens(model, tokenizer)
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
        self.template = ChatTemplate(tokenizer, template_options)
        self._autocast = autocast
        self._ends = ends
        self._pieces: dict[int, str] = {}
        self.kept: KeptChats | None = None
        self.decoder: Decoder | None = None
        # transformers has renamed the argument in 5.24.
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        is_renamed = "cache" in inspect.signature(inner.forward).parameters
        self._cache_name = "cache" if is_renamed else "past_key_values"

    @classmethod
    def load(
        cls, model: str, *, device: str | None = None, dtype: str | None = None, **settings: Any
    ) -> TransformersPolicy:
        """Load a model from a folder or the hub by `load_model`, and make a policy of it with `settings`."""
        return cls(*load_model(model, device=device, dtype=dtype), **settings)

    @property
    def context_length(self) -> int | None:
        """The model's context length in tokens; None if its configuration does not say."""
        length = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return length if is_integer(length) else None

    @property
    def prefilled(self) -> str:
        """What the chat template writes at the start of the model's turn, such as `<think>`."""
        return self.template.prefilled

    def render(self, messages: Messages) -> str:
        """Return messages rendered by the chat template, with the generation prompt."""
        return self.template.render(messages)

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the token ids of a rendered prompt, with no special tokens added."""
        return self.template.encode(text)

    def decode(self, token: int) -> str:
        """Return the text of one token."""
        if token not in self._pieces:
            self._pieces[token] = self.tokenizer.decode([token])
        return self._pieces[token]

    @contextmanager
    def caching(self) -> Iterator[None]:
        """Context in which a chat's keys and values are kept from turn to turn, by `Request.chat`.

        Results are the same but for rounding. The memory is that of one KV cache of all chats, besides that of a batch.
        Models with sliding windows compute everything again.
        """
        self.kept = {}
        try:
            yield
        finally:
            self.kept = None

    def generate(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        *,
        progress: Callable[[int], object] | None = None,
    ) -> list[Completion]:
        """Return a completion for each request, with token ids and log-probabilities.

        Args:
            requests: with `prompt_ids`.
            sampling: sampling settings.
            progress: called after each batch with its number of requests.

        Raises:
            InvalidOption: a prompt is empty or leaves no room in the model's context, or the logits are not finite.
        """
        context = self.context_length
        for request in requests:
            if not request.prompt_ids:
                raise InvalidOption("a prompt is empty; wanted a token, which predicts the first of the completion.")
            if context is not None and len(request.prompt_ids) + sampling.max_new_tokens > context:
                raise InvalidOption(
                    f"a prompt of {len(request.prompt_ids)} tokens and an answer of {sampling.max_new_tokens} exceed "
                    f"the model's {context}: lower max_new_tokens or the length of prompts."
                )
        answers: list[Completion | None] = [None] * len(requests)
        lengths = [len(request.prompt_ids) for request in requests]
        batches = decoding_batches(lengths, sampling.max_new_tokens, self.max_batch_tokens, step_tokens(self.model))
        was_training = self.model.training
        self.model.eval()
        self.decoder = make_decoder(self.model) if self._autocast is None else None
        try:
            for group in batches:
                batch = _Batch(self, [requests[i] for i in group], sampling)
                for i, answer in zip(group, batch.run(), strict=True):
                    answers[i] = answer
                if progress is not None:
                    progress(len(group))
        finally:
            self.decoder = None
            self.model.train(was_training)
        return [answer for answer in answers if answer is not None]

    @torch.inference_mode()
    def forward(self, ids: Tensor, mask: Tensor | None, positions: Tensor, cache: Any) -> Tensor:
        """Return the next-token logits `(B, V)` after `ids` `(B, T)`, and append their keys and values to the cache."""
        if self.decoder is not None and ids.shape[1] == 1:
            return self.decoder(ids, mask, positions, cache)
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
    """The state of one batch during generation: the rows' ids and, for the rows that still run, the KV cache."""

    def __init__(self, policy: TransformersPolicy, requests: Sequence[Request], sampling: Sampling) -> None:
        self._policy = policy
        self._sampling = sampling
        self._prompts = [request.prompt_ids for request in requests]
        self._chats = [request.chat for request in requests]
        self._draws = [random.Random(request.seed).random for request in requests]
        self._ids: list[list[int]] = [[] for _ in requests]
        self._logprobs: list[list[float]] = [[] for _ in requests]
        self._reasons: list[StopReason | None] = [None] * len(requests)

    def run(self) -> list[Completion]:
        """Generate until all rows have ended."""
        cache = _preallocated_cache(self._policy.model.config)
        logits, mask, positions, is_padded = self._prefill(cache)
        rows = list(range(len(self._prompts)))
        while True:
            tokens = self._choose(logits, rows)
            running = [place for place, row in enumerate(rows) if self._reasons[row] is None]
            if not running:
                self._keep(cache, dict(enumerate(rows)))
                return self._completions()
            ids, positions = tokens[:, None], positions[:, -1:] + 1
            if len(running) <= _LARGEST_RUNNING_SHARE * len(rows):
                self._keep(cache, {place: row for place, row in enumerate(rows) if self._reasons[row] is not None})
                index = torch.tensor(running, device=ids.device)
                cache.batch_select_indices(index)
                ids, positions, mask = ids[index], positions[index], mask[index]
                rows = [rows[place] for place in running]
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
            logits = self._policy.forward(ids, mask if is_padded else None, positions, cache)

    def _prefill(self, cache: Any) -> tuple[Tensor, Tensor, Tensor, bool]:
        """Encode the prompts into the cache.

        Returns:
            Of each row the next-token logits `(B, V)`, the attention mask `(B, T)` and the positions `(B, T)`, and
            whether there is padding.
        """
        kept = [None if self._policy.kept is None else self._policy.kept.get(chat) for chat in self._chats]
        if any(kept):
            return self._prefill_kept(cache, kept)
        decoder = self._policy.decoder
        if decoder is not None and decoder.can_prefill:
            return self._prefill_tree(cache, decoder)
        # Prefix caching: the members of a group have the same prompt, which is encoded once.
        places = {prompt: place for place, prompt in enumerate(dict.fromkeys(self._prompts))}
        ids, mask, positions, is_padded = self._padded(list(places))
        logits = self._policy.forward(ids, mask if is_padded else None, positions, cache)
        if len(places) < len(self._prompts):
            index = torch.tensor([places[prompt] for prompt in self._prompts], device=ids.device)
            cache.batch_select_indices(index)
            logits, positions, mask = logits[index], positions[index], mask[index]
        return logits, mask, positions, is_padded

    def _prefill_tree(self, cache: Any, decoder: Decoder) -> tuple[Tensor, Tensor, Tensor, bool]:
        """Encode the prompts as a prefix tree; returns what `_prefill` does."""
        prompts = list(dict.fromkeys(self._prompts))
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        ids = pad_sequence([torch.tensor(prompt) for prompt in prompts], batch_first=True)
        tree = prefix_tree(ids, lengths)
        ends = lengths.cumsum(0)
        logits, kept = decoder.prefill(ids[tree.rows, tree.positions], tree, tree.index[ends - 1])
        _, mask, positions, is_padded = self._padded(self._prompts)
        # The tokens of each row on the right of its columns; those on the left are any, and hidden by the mask.
        places = {prompt: place for place, prompt in enumerate(prompts)}
        rows = torch.tensor([places[prompt] for prompt in self._prompts])
        columns = torch.arange(mask.shape[1]) - mask.shape[1]
        index = tree.index[(ends[rows, None] + columns).clamp(min=0)]
        for layer, states in zip(cache.layers, kept, strict=True):
            layer.update(*(part[:, index].transpose(0, 1) for part in states))
        return logits[rows], mask, positions, is_padded

    def _prefill_kept(self, cache: Any, kept: Sequence[_KeptChat | None]) -> tuple[Tensor, Tensor, Tensor, bool]:
        """Encode the prompts behind the tokens whose keys and values are kept; returns what `_prefill` does.

        Rows with similarly many new tokens are encoded together, each as many as the one with the most, so that the
        cache has no holes.
        """
        ids, mask, positions, is_padded = self._padded(self._prompts)
        known = [0 if chat is None else chat.common(prompt) for chat, prompt in zip(kept, self._prompts, strict=True)]
        news = [len(prompt) - count for prompt, count in zip(self._prompts, known, strict=True)]
        parts = encoding_batches(news, self._policy.model)
        some = next(chat for chat in kept if chat is not None)
        encoded: list[tuple[Any, Tensor]] = []
        for rows in parts:
            part = cache if len(parts) == 1 else _preallocated_cache(self._policy.model.config)
            index = torch.tensor(rows, device=ids.device)
            new = max(news[row] for row in rows)
            first = ids.shape[1] - new
            if first:
                counts = [len(self._prompts[row]) - new for row in rows]
                _fill(part, [kept[row] for row in rows], counts, first, some)
            seen = mask[index] if is_padded else None
            logits = self._policy.forward(ids[index, first:], seen, positions[index, first:], part)
            encoded.append((part, logits))
        if len(parts) == 1:
            return logits, mask, positions, is_padded
        order = torch.tensor([row for rows in parts for row in rows], device=ids.device).argsort()
        for number, layer in enumerate(cache.layers):
            layers = [part.layers[number] for part, _ in encoded]
            layer.update(
                *(torch.cat(states)[order] for states in zip(*((x.keys, x.values) for x in layers), strict=True))
            )
        return torch.cat([logits for _, logits in encoded])[order], mask, positions, is_padded

    def _padded(self, prompts: Sequence[tuple[int, ...]]) -> tuple[Tensor, Tensor, Tensor, bool]:
        """Return prompts padded on the left: ids, mask and positions `(B, T)`, and whether there is padding."""
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        width = int(lengths.max())
        ids = torch.zeros(len(prompts), width, dtype=torch.long)  # padded with any token: the mask hides it
        for row, prompt in zip(ids, prompts, strict=True):
            row[width - len(prompt) :] = torch.tensor(prompt)
        mask = (torch.arange(width) >= width - lengths[:, None]).long()
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        # Attention is faster without a mask, and without padding there is nothing to mask.
        is_padded = bool((lengths < width).any())
        device = next(self._policy.model.parameters()).device
        return ids.to(device), mask.to(device), positions.to(device), is_padded

    def _keep(self, cache: Any, rows: Mapping[int, int]) -> None:
        """Keep keys and values of chats whose completions have ended.

        Args:
            cache: of the batch.
            rows: by their place in the cache.
        """
        if self._policy.kept is None or not all(type(layer) is _PreallocatedLayer for layer in cache.layers):
            return
        width = max(map(len, self._prompts))
        for place, row in rows.items():
            if not self._chats[row]:
                continue
            # Of the last token there are none yet.
            ids = (*self._prompts[row], *self._ids[row][:-1])
            start = width - len(self._prompts[row])
            here = slice(start, start + len(ids))
            layers = tuple(
                (layer.keys[place, :, here].clone(), layer.values[place, :, here].clone()) for layer in cache.layers
            )
            self._policy.kept[self._chats[row]] = _KeptChat(ids, layers)

    def _choose(self, logits: Tensor, rows: Sequence[int]) -> Tensor:
        """Return the next token `(B,)` of each row from its logits `(B, V)`, and record it where the row still runs."""
        sampling = self._sampling
        logprobs = logits.to(torch.promote_types(logits.dtype, torch.float32))
        logprobs = torch.log_softmax(logprobs if sampling.temperature == 1.0 else logprobs / sampling.temperature, -1)
        if sampling.greedy:
            tokens = logprobs.argmax(dim=-1)
        else:
            # 1 - 2**-53 times the sum of the probabilities may round to the whole sum, beyond the last token.
            draws = [min(self._draws[row](), 1 - 2**-40) for row in rows]
            tokens = invert(logprobs, torch.tensor(draws, dtype=torch.float64, device=logits.device))
        chosen = logprobs.gather(1, tokens[:, None])[:, 0]
        if not bool(chosen.isfinite().all()):
            raise InvalidOption("the model's logits are not finite: its weights have diverged; use a checkpoint.")
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


class _KeptChat(NamedTuple):
    """Keys and values of a chat so far.

    Attributes:
        ids: its tokens.
        layers: keys and values `(heads, T, d)` of each layer.
    """

    ids: tuple[int, ...]
    layers: tuple[tuple[Tensor, Tensor], ...]

    def common(self, prompt: tuple[int, ...]) -> int:
        """Return how many tokens a prompt begins with that are kept, without its last, which is to be encoded."""
        limit = min(len(self.ids), len(prompt) - 1)
        if self.ids[:limit] == prompt[:limit]:
            return limit
        return next(i for i in range(limit) if self.ids[i] != prompt[i])


KeptChats = dict[str, _KeptChat]


class _PreallocatedLayer(DynamicLayer):
    """Preallocated KV cache of one layer: keys and values `(B, heads, T, d)` are views of larger tensors."""

    buffers: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append keys and values; return all."""
        start: int = self.get_seq_length()
        end = start + key_states.shape[-2]
        if self.buffers is None or self.buffers[0].shape[-2] < end:
            old = (self.keys, self.values) if start else (None, None)
            self.buffers = (_allocate(key_states, old[0], end), _allocate(value_states, old[1], end))
            self.is_initialized = True
        for part, states in zip(self.buffers, (key_states, value_states), strict=True):
            part[..., start:end, :] = states
        self.keys, self.values = (part[..., :end, :] for part in self.buffers)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some rows, in this order; the next token allocates new caches."""
        super().batch_select_indices(indices)  # type: ignore[no-untyped-call]
        self.buffers = None


def _preallocated_cache(config: Any) -> Any:
    """Return a preallocated KV cache: transformers' own copies all keys and values for each token."""
    cache = DynamicCache(config=config)
    make: Callable[[], DynamicLayer] = _PreallocatedLayer
    # By exact type: sliding-window layers, which bound their size themselves, are subclasses.
    cache.layers = [make() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def _fill(cache: Any, kept: Sequence[_KeptChat | None], counts: Sequence[int], width: int, like: _KeptChat) -> None:
    """Write kept keys and values into an empty cache, on the right of its first columns.

    Args:
        cache: of a batch.
        kept: of each row.
        counts: how many tokens of each row, of which nothing is taken where it is not positive.
        width: columns.
        like: a chat of the same model.
    """
    for number, layer in enumerate(cache.layers):
        parts = [part.new_zeros(len(kept), part.shape[0], width, part.shape[-1]) for part in like.layers[number]]
        for row, (chat, count) in enumerate(zip(kept, counts, strict=True)):
            if chat is not None and count > 0:
                for part, states in zip(parts, chat.layers[number], strict=True):
                    part[row, :, width - count :] = states[:, :count]
        layer.update(*parts)


def _allocate(states: Tensor, old: Tensor | None, length: int) -> Tensor:
    """Return a tensor like `states` with room for more than `length` tokens, and `old` copied to its beginning."""
    part = states.new_empty(*states.shape[:-2], length + _ALLOCATED_AHEAD, states.shape[-1])
    if old is not None:
        part[..., : old.shape[-2], :] = old
    return part


def invert(logprobs: Tensor, draws: Tensor) -> Tensor:
    """Inverse-transform sampling: the tokens `(B,)` at which the cumulative probabilities first exceed the draws.

    A token of probability 0 is never returned.

    Args:
        logprobs: `(B, V)` nats.
        draws: `(B,)` float64 from 0 to below 1.
    """
    sums = logprobs.to(torch.float64).exp().cumsum(dim=-1)
    # The probabilities may sum to a little more or less than 1.
    return torch.searchsorted(sums, draws[:, None] * sums[:, -1:], right=True)[:, 0].clamp(max=logprobs.shape[1] - 1)


def load_model(model: str, *, device: str | None = None, dtype: str | None = None) -> tuple[Any, Any]:
    """Load a chat model and its tokenizer.

    Args:
        model: a folder, a name on the hub, or `smollm2` (`sdar_agents.engines.smollm2`). A folder may hold LoRA
            adapters, as peft writes them; they are merged into the weights of the model that they name.
        device: such as `cuda` or `cpu`; None for `cuda` if there is one, else `cpu`.
        dtype: of the weights, such as `bfloat16`; None for what the model was saved in.

    Returns:
        The model, in evaluation mode on the device, and the tokenizer.

    Raises:
        InvalidOption: it cannot be loaded, needs code of its own, has pickled weights, or the device has no float64,
            which sampling uses.
        MissingExtra: what `smollm2` or adapters need is not installed.
    """
    device = choose_device(device)
    check_folder(model)
    base = adapted_model(model)
    if base is not None:
        unadapted, tokenizer = load_model(base, device=device, dtype=dtype)
        return _merged(unadapted, model), tokenizer
    # Otherwise transformers asks a service to convert pickled weights of the hub, and takes what that proposes.
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
    with without_bars():
        folder = str(smollm2_folder()) if model == SMOLLM2 else model
    try:
        with without_bars():
            # False, not the default: on a terminal the default asks whether to run the model's own code, and waits.
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
            loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
                folder, dtype=dtype or "auto", trust_remote_code=False, use_safetensors=True
            )
        loaded = loaded.to(device).eval()
    except Exception as error:  # of transformers, safetensors, torch: what the cause happens to run into
        raise loading_error(model, device, error) from error
    check_tokenizer(model, tokenizer)
    return loaded, tokenizer


def _merged(model: Any, adapters: str) -> Any:
    """Return a model with the adapters of a folder merged into its weights."""
    peft: Any = import_extra("peft", extra="lora", purpose=f"the model {adapters!r}, which is LoRA adapters,")
    folder = str(Path(adapters).expanduser())
    try:
        config = peft.LoraConfig.from_pretrained(folder, trust_remote_code=False)
        with without_peft_warning():
            adapted = peft.PeftModel(model, config)
            loaded = peft.set_peft_model_state_dict(adapted, load_file(f"{folder}/adapter_model.safetensors"))
            # peft takes no notice of either.
            others = [*loaded.unexpected_keys, *(name for name in loaded.missing_keys if "lora_" in name)]
            if others:
                raise InvalidOption(f"its adapters are not those of {model.name_or_path!r}: {others[0]}")
            merged = adapted.merge_and_unload()
        return merged.requires_grad_(True).eval()
    except Exception as error:  # of peft, safetensors, torch
        raise loading_error(adapters, str(model.device), error) from error


def choose_device(device: str | None = None) -> str:
    """Return the torch device to use: the given one, else `cuda` if there is a GPU, else `cpu`.

    Raises:
        InvalidOption: it is `mps`, which has no float64.
    """
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.partition(":")[0] == "mps":
        raise InvalidOption(
            f"the device {device} has no float64, which sampling and metrics are computed in; wanted cpu or cuda."
        )
    return device


@contextmanager
def without_bars() -> Iterator[None]:
    """Context manager that disables the progress bars of transformers, which would break ours and fill logs."""
    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextmanager
def without_peft_warning() -> Iterator[None]:
    """Context manager that hides one warning: peft reads an attribute that transformers from 5.24 calls otherwise."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Return the tokens that end a completion, as the model's generation config and the tokenizer name them."""
    named = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ends = [named] if is_integer(named) else list(named or ())
    return frozenset(end for end in (*ends, tokenizer.eos_token_id) if end is not None)
