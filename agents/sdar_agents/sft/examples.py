"""Token ids of demonstrations: chat template, tokenisation, batches of rows of similar length, micro-batches."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdar_agents.engines.chat.appended import AppendedMessages, without_closing
from sdar_agents.engines.chat.chat_template import ChatTemplate
from sdar_agents.scoring.batch import Sequences, pack_by_length
from sdar_agents.sft.settings import SFTSettings
from sdar_envs.errors import InvalidOption

__all__ = ["Examples", "MicroBatch", "check_row", "encode_rows", "micro_batches", "plan_batches"]

ItemT = TypeVar("ItemT")

_WINDOW = 64
"""Rows are sorted by length within so many batches: little padding, and still a random order."""


class Examples(NamedTuple):
    """Tokenised rows, concatenated.

    Attributes:
        token_ids: `(N,)` int32.
        starts: `(R + 1,)`, cumulative offsets: where each row begins, and N.
        prompt_lengths: `(R,)`, tokens of each prompt; of a growing chat, of its first.
        kinds: `(N,)` int8, of each token: 0 of a prompt, 1 of a completion to learn, 2 of another completion; None if
            no row is a growing chat.
    """

    token_ids: NDArray[np.int32]
    starts: NDArray[np.int64]
    prompt_lengths: NDArray[np.int64]
    kinds: NDArray[np.int8] | None = None

    @property
    def lengths(self) -> NDArray[np.int64]:
        """`(R,)`, prompt and completion together."""
        return np.diff(self.starts)

    def digest(self) -> str:
        """Return a hash of all rows."""
        return hashlib.sha256(b"".join(part.tobytes() for part in self if part is not None)).hexdigest()


def check_row(row: Mapping[str, Any], where: str) -> None:
    """Check that a row is a demonstration: chat messages and a completion.

    Args:
        row: of a file of demonstrations.
        where: its name in the message, such as `row 3`.

    Raises:
        InvalidOption: it is not.
    """
    messages, completion = row.get("messages"), row.get("completion")
    if not messages or not completion:
        raise InvalidOption(f"{where} has no messages or no completion; wanted both.")
    is_chat = isinstance(messages, list) and all(
        isinstance(message, Mapping) and all(isinstance(message.get(name), str) for name in ("role", "content"))
        for message in messages
    )
    if not is_chat:
        raise InvalidOption(
            f'{where} has the messages {messages!r:.80}; wanted a list of {{"role": ..., "content": ...}}, both text.'
        )
    if not isinstance(completion, str):
        raise InvalidOption(f"{where} has the completion {completion!r:.80}; wanted text.")
    learnt = row.get("learnt", [])
    own = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
    if not isinstance(learnt, list) or any(type(number) is not int or number not in own for number in learnt):
        raise InvalidOption(
            f"{where} has learnt {learnt!r:.80}; wanted the numbers of messages of the assistant, of {own!r:.80}."
        )


def encode_rows(
    rows: Iterable[Mapping[str, Any]],
    tokenizer: Any,
    *,
    max_length: int | None = None,
    template_options: Mapping[str, Any] | None = None,
) -> Examples:
    """Tokenise demonstrations: the rendered messages, the completion, the end token.

    A chat template that opens `<think>` itself has it in the prompt; the completion then begins behind it. Control
    tokens in messages and completions are text.

    A row with `learnt` is a growing chat: it has the tokens that a rollout with `history: appended` feeds, and the
    messages of the assistant with these numbers are completions to learn too.

    Args:
        rows: with `messages` and `completion`, and `learnt` if it is a growing chat.
        tokenizer: with a chat template and an end token.
        max_length: the model's context length; longer rows are an error. None for any length.
        template_options: for the chat template.

    Raises:
        InvalidOption: there are no rows; one is too long, is no demonstration or is rejected by the template; or the
            tokenizer has no chat template or end token.
    """
    if tokenizer.chat_template is None or tokenizer.eos_token is None:
        raise InvalidOption("the tokenizer has no chat template or no end token: use one that was made for chat.")
    template = ChatTemplate(tokenizer, template_options or {})
    ids: list[NDArray[np.int32]] = []
    kinds: list[NDArray[np.int8]] = []
    prompt_lengths: list[int] = []
    has_chats = False
    # In parts: what a tokenizer returns takes a hundred times the memory of its ids.
    for part in _parts(rows, 1024):
        pieces: list[list[_Piece]] = []
        for row in part:
            where = f"row {len(ids) + len(pieces) + 1}"
            check_row(row, where)
            has_chats |= "learnt" in row
            try:
                pieces.append(_pieces(row, template, tokenizer.eos_token))
            except InvalidOption as error:
                raise InvalidOption(f"{where}: {error}") from error
        encoded = iter(template.encode_batch([piece.text for own in pieces for piece in own]))
        for own in pieces:
            parts = [
                list(without_closing(found, tokenizer.eos_token_id)) if piece.is_between else found
                for piece, found in zip(own, encoded, strict=False)
            ]
            length = sum(map(len, parts))
            if max_length is not None and length > max_length:
                raise InvalidOption(
                    f"row {len(ids) + 1} has {length} tokens and the model reads {max_length}: make demonstrations "
                    "with a shorter history."
                )
            ids.append(np.concatenate([np.array(part, dtype=np.int32) for part in parts]))
            kinds.append(np.repeat([piece.kind for piece in own], [len(part) for part in parts]).astype(np.int8))
            prompt_lengths.append(len(parts[0]))
    if not ids:
        raise InvalidOption("there are no demonstrations; wanted at least one row.")
    starts = np.cumsum([0, *map(len, ids)])
    return Examples(np.concatenate(ids), starts, np.array(prompt_lengths), np.concatenate(kinds) if has_chats else None)


class _Piece(NamedTuple):
    """Text of a row that is encoded by itself; `kind` as in `Examples`."""

    text: str
    kind: int
    is_between: bool = False


def _pieces(row: Mapping[str, Any], template: ChatTemplate, end: str) -> list[_Piece]:
    """Return the prompt and the completion, or of a growing chat all completions and what stands between them."""

    def completion(text: str, kind: int) -> _Piece:
        return _Piece(template.mark(template.continuation(text)) + end, kind)

    messages = row["messages"]
    own = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
    is_growing = "learnt" in row and bool(own)
    pieces = [_Piece(template.render(messages[: own[0]] if is_growing else messages), 0)]
    if not is_growing:
        return [*pieces, completion(row["completion"], 1)]
    appended = AppendedMessages(template)
    for number, following in zip(own, [*own[1:], len(messages)], strict=True):
        pieces.append(completion(messages[number]["content"], 1 if number in row["learnt"] else 2))
        pieces.append(_Piece(appended.text(messages[number + 1 : following]), 0, is_between=True))
    return [*pieces, completion(row["completion"], 1)]


def plan_batches(lengths: Sequence[int], settings: SFTSettings) -> list[list[int]]:
    """Return the row numbers of each optimiser step: each row once per epoch, batched with rows of similar length."""
    batches: list[list[int]] = []
    longest = max(lengths)
    window = _WINDOW * max(1, settings.batch_tokens // longest)
    for epoch in range(settings.epochs):
        rng = random.Random(f"{settings.seed}/{epoch}")
        order = list(range(len(lengths)))
        rng.shuffle(order)
        found: list[list[int]] = []
        for rows in _parts(order, window):
            packs = pack_by_length([lengths[row] for row in rows], settings.batch_tokens)
            found += [[rows[i] for i in pack] for pack in packs]
        rng.shuffle(found)
        batches += found
    return batches


class MicroBatch(NamedTuple):
    """Micro-batch of rows; the "response" of a sequence is all but its first token.

    Attributes:
        sequences: `(B, T)`.
        weights: `(B, T - 1)`, weight of each token in the loss.
        answers: `(B, T - 1)` bool, True for tokens of completions.
    """

    sequences: Sequences
    weights: Tensor
    answers: Tensor

    def to(self, device: torch.device) -> MicroBatch:
        """Return the micro-batch on a device."""
        return MicroBatch(self.sequences.to(device), self.weights.to(device), self.answers.to(device))


def micro_batches(examples: Examples, rows: Sequence[int], settings: SFTSettings, pad_id: int) -> Iterator[MicroBatch]:
    """Yield rows in micro-batches of at most `settings.max_tokens` padded tokens."""
    for pack in pack_by_length(examples.lengths[rows].tolist(), settings.max_tokens):
        yield _micro_batch(examples, [rows[i] for i in pack], settings, pad_id)


def _micro_batch(examples: Examples, rows: Sequence[int], settings: SFTSettings, pad_id: int) -> MicroBatch:
    lengths = torch.from_numpy(examples.lengths[rows])
    prompts = torch.from_numpy(examples.prompt_lengths[rows])
    input_ids = torch.full((len(rows), int(lengths.max())), pad_id)
    for i, row in enumerate(rows):
        ids = examples.token_ids[examples.starts[row] : examples.starts[row + 1]]
        input_ids[i, : len(ids)] = torch.from_numpy(ids.astype(np.int64))
    # Column j is about token j + 1.
    targets = torch.arange(1, input_ids.shape[1])
    if examples.kinds is None:
        answers = (targets >= prompts[:, None]) & (targets < lengths[:, None])
        read = targets < prompts[:, None]
    else:
        kinds = torch.full(input_ids.shape, 2, dtype=torch.int8)
        for i, row in enumerate(rows):
            kinds[i, : lengths[i]] = torch.from_numpy(examples.kinds[examples.starts[row] : examples.starts[row + 1]])
        answers, read = kinds[:, 1:] == 1, kinds[:, 1:] == 0
    weights = answers.float() + read * settings.prompt_weight
    return MicroBatch(Sequences(input_ids, torch.ones_like(lengths), lengths - 1), weights, answers)


def _parts(items: Iterable[ItemT], size: int) -> Iterator[list[ItemT]]:
    """Yield lists of `size` items, the last maybe shorter: `itertools.batched`, which Python 3.11 lacks."""
    iterator = iter(items)
    while part := list(islice(iterator, size)):
        yield part
