"""External teachers: another model, or an engine of your own, that scores the student's tokens.

    learner: {teacher: external, teacher_model: runs/large/checkpoints/step-000150/model}
    learner: {teacher: external, teacher_model: "my_scorers:Remote", teacher_options: {url: ...}}

A teacher scores the very tokens that the student sampled, so both need one tokenizer. Another one is refused: its ids
mean other texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sdar_agents.engines.transformers import load_model
from sdar_agents.parallel import World
from sdar_agents.scoring.batch import Batch, Sequences
from sdar_agents.scoring.head import TeacherView
from sdar_agents.scoring.logprobs import view_teacher
from sdar_agents.scoring.model_parts import disable_dropout
from sdar_agents.scoring.options import ScoringOptions
from sdar_agents.scoring.shared_prefixes import score_shared_prefixes
from sdar_envs.errors import InvalidOption, SdarError, UnknownName
from sdar_envs.importing import import_named, is_import_path

__all__ = ["ExternalTeacher", "ModelTeacher", "Scorer", "ScorerTeacher", "check_same_tokenizer", "open_teacher"]

_PROBES = (
    "put the clean mug in the coffee machine 1.",
    "<think>Price < $30.50?</think>\n<action>click[Buy Now]</action>",
    "Où est né l'écrivain? \u4e16\u754c 1234567",
)


class Scorer(Protocol):
    """Protocol of an engine that scores given tokens: a class made as `Class(tokenizer, **options)`.

    Attributes:
        tokenizer: the tokenizer of its model, as transformers has it; it must be the student's.
    """

    tokenizer: Any

    def score(
        self, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], *, temperature: float
    ) -> Sequence[Sequence[float]]:
        """Return the log-probability in nats of each token of each response, after its prompt.

        Args:
            prompts: token ids.
            responses: token ids, one response for each prompt; none is empty.
            temperature: that divides the logits.
        """
        ...


class ExternalTeacher(Protocol):
    """Protocol of who scores tokens in the learner's place, for the teacher or the reference."""

    def logprobs(self, sequences: Sequences, mask: Tensor, options: ScoringOptions, *, max_tokens: int) -> Tensor:
        """Return the log-probs `(B, L)` of the response tokens in the mask, 0 elsewhere."""
        ...

    def view(self, batch: Batch) -> TeacherView:
        """Return the teacher's whole distributions for a micro-batch."""
        ...


class ModelTeacher:
    """A causal language model of transformers as a teacher; it is never trained.

    Args:
        model: the model.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model.requires_grad_(False).eval()
        disable_dropout(model)

    def logprobs(self, sequences: Sequences, mask: Tensor, options: ScoringOptions, *, max_tokens: int) -> Tensor:
        """Return the log-probs `(B, L)` of the response tokens in the mask, 0 elsewhere."""
        # Packing is a state of the student's model.
        plain = ScoringOptions(temperature=options.temperature, head_dtype=options.head_dtype)
        return score_shared_prefixes(self.model, sequences, mask, plain, max_tokens=max_tokens)

    def view(self, batch: Batch) -> TeacherView:
        """Return the teacher's whole distributions for a micro-batch."""
        return view_teacher(self.model, batch)


class ScorerTeacher:
    """A `Scorer` as a teacher.

    Args:
        scorer: the engine.
        name: for messages.
        world: the ranks of a run, each of which asks for a share of the rows; None for one process.
    """

    def __init__(self, scorer: Scorer, name: str, world: World | None = None) -> None:
        self._scorer = scorer
        self._name = name
        self._world = world or World()

    def logprobs(self, sequences: Sequences, mask: Tensor, options: ScoringOptions, *, max_tokens: int) -> Tensor:
        """Return the log-probs `(B, L)` of the response tokens in the mask, 0 elsewhere. Collective.

        Raises:
            InvalidOption: the engine returns something else than one finite number per token.
            EndpointError: an engine behind a server does not answer.
        """
        problem: SdarError | None = None
        result = torch.zeros(mask.shape, device=mask.device)
        try:
            self._score(result, self._world.share(mask.any(dim=1).nonzero()[:, 0].tolist()), sequences, options)
        except SdarError as error:
            problem = error
        self._world.raise_together(problem)
        return self._world.add(result).masked_fill(~mask, 0.0)

    def _score(self, result: Tensor, rows: Sequence[int], sequences: Sequences, options: ScoringOptions) -> None:
        """Write the log-probs of some rows to the result."""
        if not rows:
            return
        ids, prompts, lengths = (
            part.tolist() for part in (sequences.input_ids, sequences.prompt_lengths, sequences.lengths)
        )
        responses = [ids[i][prompts[i] : lengths[i]] for i in rows]
        scored = self._scorer.score([ids[i][: prompts[i]] for i in rows], responses, temperature=options.temperature)
        if len(scored) != len(rows) or any(len(a) != len(b) for a, b in zip(scored, responses, strict=True)):
            raise InvalidOption(
                f"the teacher {self._name} returned {len(scored)} lists of log-probs for {len(rows)} responses, or a "
                "list of another length than its response; wanted one number per token."
            )
        for i, values in zip(rows, scored, strict=True):
            result[i, : len(values)] = torch.tensor(values, dtype=torch.float32)
        if not torch.isfinite(result).all():
            raise InvalidOption(f"the teacher {self._name} returned a log-prob that is not finite.")

    def view(self, batch: Batch) -> TeacherView:
        """Refuse: an engine gives log-probs of tokens.

        Raises:
            InvalidOption: always.
        """
        raise InvalidOption(
            f"this method compares whole distributions, and the teacher {self._name} returns log-probs of tokens: name "
            "a model in learner.teacher_model, or take a divergence of sampled tokens."
        )


def open_teacher(
    name: str,
    tokenizer: Any,
    *,
    device: str | None = None,
    dtype: str | None = None,
    options: Mapping[str, Any] = MappingProxyType({}),
    world: World | None = None,
) -> ExternalTeacher:
    """Open an external teacher.

    Args:
        name: a folder or hub name of a model, `smollm2`, or `module:Class` of a `Scorer` of your own.
        tokenizer: the student's.
        device: of a model; None for CUDA if there is a GPU.
        dtype: of a model; None for what it was saved in.
        options: keyword arguments of a `Scorer`.
        world: the ranks of a run; None for one process.

    Raises:
        InvalidOption: the model cannot be loaded, or its tokenizer is not the student's.
        UnknownName: there is no such class, or it is no scorer.
    """
    if not is_import_path(name) or Path(name).expanduser().exists():  # a path of Windows has a colon too
        if options:
            raise InvalidOption(f"teacher_options are for module:Class, and teacher_model is {name!r}: leave them out.")
        model, theirs = load_model(name, device=device, dtype=dtype)
        check_same_tokenizer(tokenizer, theirs, name)
        return ModelTeacher(model)
    made = import_named(name, what="a teacher")
    if not isinstance(made, type):
        raise UnknownName(f"the teacher {name!r} is a {type(made).__name__}; wanted a class.")
    try:
        scorer: Scorer = made(tokenizer, **options)
    except TypeError as error:
        raise InvalidOption(
            f"the teacher {name!r} cannot be made with a tokenizer and the options {', '.join(options) or '(none)'}: "
            f"{error}."
        ) from error
    missing = [member for member in ("score", "tokenizer") if not hasattr(scorer, member)]
    if missing:
        raise UnknownName(
            f"the class {name!r} is no teacher, it lacks {' and '.join(missing)}; wanted the members of "
            "sdar_agents.learner.Scorer."
        )
    check_same_tokenizer(tokenizer, scorer.tokenizer, name)
    return ScorerTeacher(scorer, name, world)


def check_same_tokenizer(ours: Any, theirs: Any, name: str) -> None:
    """Check that two tokenizers have the same tokens, and cut texts in the same way.

    Args:
        ours: the student's.
        theirs: the teacher's.
        name: of the teacher.

    Raises:
        InvalidOption: they differ; the message has the first difference.
    """
    if ours is theirs:
        return
    left, right = ours.get_vocab(), theirs.get_vocab()
    difference = ""
    if left != right:
        token = min((token for token in {*left, *right} if left.get(token) != right.get(token)), key=str)
        difference = (
            f"{token!r} is {_number(left, token)} of the student's {len(left)} tokens and {_number(right, token)} of "
            f"the teacher's {len(right)}"
        )
    for text in _PROBES:
        if not difference and ours.encode(text, add_special_tokens=False) != theirs.encode(
            text, add_special_tokens=False
        ):
            difference = f"they cut {text!r} into other tokens"
    if difference:
        raise InvalidOption(
            f"the teacher {name} has another tokenizer than the student: {difference}. It would score other texts than "
            "the student wrote; wanted a model with the student's tokenizer, such as a larger one of its family."
        )


def _number(vocabulary: Mapping[str, int], token: str) -> str:
    return f"number {vocabulary[token]}" if token in vocabulary else "none"
