"""Conformance test of training methods: what must hold for any, and what a method declares of itself.

    report = check_algorithm("my_methods:RLOO")
    print(report)
    assert report.ok

It trains a random model of 2 layers on made-up rows for a few steps, which takes a second or two.
"""

from __future__ import annotations

import copy
import dataclasses
import io
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, TypeAlias

import torch
import transformers
from torch import Tensor, nn

from sdar_agents.algorithms import Algorithm, Declarations, make_algorithm
from sdar_agents.learner.learner import Learner
from sdar_agents.learner.settings import LearnerSettings
from sdar_agents.learner.weights import fingerprint
from sdar_agents.scoring.batch import Batch, make_batch
from sdar_agents.scoring.head import Scores
from sdar_agents.scoring.logprobs import score, view_teacher
from sdar_agents.scoring.options import ScoringOptions
from sdar_agents.types import Row
from sdar_envs.errors import InvalidOption

__all__ = ["Conformance", "check_algorithm"]

_VOCABULARY = 48
_STEP = 25  # inside the windows and warm-downs of most methods
_ROUNDING = 1e-5


@dataclass(frozen=True)
class Conformance:
    """Result of `check_algorithm`.

    Attributes:
        name: of the method.
        passed: what holds, by name.
        failed: what does not: name and reason.
        not_declared: what the method does not say of itself, so that it was not tested.
    """

    name: str
    passed: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    not_declared: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing has failed."""
        return not self.failed

    def __str__(self) -> str:
        lines = [f"{self.name}: {'conforms' if self.ok else 'does not conform'}"]
        lines += [f"  holds         {name}" for name in self.passed]
        lines += [f"  FAILS         {name}: {reason}" for name, reason in self.failed.items()]
        lines += [f"  not declared  {name}" for name in self.not_declared]
        return "\n".join(lines)


def check_algorithm(method: str | Algorithm, **settings: Any) -> Conformance:
    """Test whether a training method keeps to what the learner relies on.

    For every method:

    - `padding`: padding and responses that are masked do not change the update, bit for bit;
    - `finite`: loss and gradient are finite at extreme log-probabilities and advantages;
    - `micro-batches`: gradient accumulation does not change the update but for rounding;
    - `row order`: nor does the order of the rows;
    - `resume`: two steps are, bit for bit, one step, a checkpoint and another step.

    And what `GRPO.declarations` says, if the method says it:

    - `off`: with its coefficients at 0 the method is its base, bit for bit;
    - `bounds`: a row's advantage is multiplied by a factor within bounds; from 0 on, its sign is kept.

    Args:
        method: a name, `module:Class`, or an instance.
        **settings: of a method that is given by name, on top of the suite `alfworld`.

    Raises:
        UnknownName: there is no such method or setting.
        InvalidOption: a setting is out of range, the class is no algorithm, or settings came with an instance.
    """
    if isinstance(method, str):
        algorithm: Algorithm = make_algorithm(method, suite="alfworld", **settings)
        name = method
    elif settings:
        raise InvalidOption(f"settings came with an instance: {', '.join(settings)}. Give them to its class.")
    else:
        algorithm, name = method, type(method).__name__
    declare: Callable[[], Declarations] = getattr(algorithm, "declarations", Declarations)
    declared = declare()
    tests = dict(_FOR_ALL)
    if declared.off and declared.base is not None:
        tests["off"] = _off
    if declared.bounds is not None:
        tests["bounds"] = _bounds
    failed = {test: reason for test, run in tests.items() if (reason := _tried(run, algorithm, declared))}
    return Conformance(
        name,
        tuple(test for test in tests if test not in failed),
        failed,
        tuple(test for test in ("off", "bounds") if test not in tests),
    )


_Test: TypeAlias = Callable[[Algorithm, Declarations], str]


def _tried(test: _Test, algorithm: Algorithm, declared: Declarations) -> str:
    """Return why a test fails; empty if it does not."""
    try:
        return test(algorithm, declared)
    except Exception as error:  # whatever a method of somebody's own raises
        return f"{type(error).__name__}: {error}"


# -- the tests -------------------------------------------------------------------------------


def _padding(algorithm: Algorithm, declared: Declarations) -> str:
    prints = [_trained(algorithm, _rows(), pad_id=pad_id) for pad_id in (0, 7)]
    if prints[0] != prints[1]:
        return "the update depends on the padding token"
    rows = _rows()
    other = [replace(row, response_ids=row.response_ids[::-1]) if row.is_truncated else row for row in rows]
    prints = [_trained(algorithm, these, mask_truncated=True) for these in (rows, other)]
    return "" if prints[0] == prints[1] else "the update depends on the tokens of a masked response"


def _finite(algorithm: Algorithm, declared: Declarations) -> str:
    model, rows = _model(), _rows()
    for gap in (80.0, -80.0):
        for size in (10.0, -10.0):
            batch, scores = _scored(algorithm, model, rows, gap)
            batch = batch.replace(advantages=torch.full((len(batch),), size))
            batch = _shaped(algorithm, rows, batch)
            output = algorithm.loss(
                _weighed(algorithm, batch), scores, step=_STEP, log_vocabulary=math.log(_VOCABULARY)
            )
            grads = torch.autograd.grad(output.loss, list(model.parameters()), allow_unused=True)
            if not all(torch.isfinite(part).all() for part in (output.loss, *grads) if part is not None):
                return f"loss or gradient is not finite with gaps of {gap:g} nats and advantages of {size:g}"
    return ""


def _micro_batches(algorithm: Algorithm, declared: Declarations) -> str:
    models = [_descended(algorithm, _rows(), max_tokens=max_tokens) for max_tokens in (1, 80, 100_000)]
    distance = max(_distance(models[0], models[-1]), _distance(models[1], models[-1]))
    return "" if distance < _ROUNDING else f"weights differ by {distance:.1e} between micro-batches of other sizes"


def _row_order(algorithm: Algorithm, declared: Declarations) -> str:
    rows = _rows()
    shuffled = random.Random(1).sample(rows, len(rows))
    distance = _distance(_descended(algorithm, rows), _descended(algorithm, shuffled))
    return "" if distance < _ROUNDING else f"weights differ by {distance:.1e} between other orders of the rows"


def _resume(algorithm: Algorithm, declared: Declarations) -> str:
    whole = _model()
    learner = _learner(whole, algorithm)
    for step in (_STEP, _STEP + 1):
        learner.learn(_rows(step), step)
    first = _model()
    learner = _learner(first, algorithm)
    learner.learn(_rows(_STEP), _STEP)
    file = io.BytesIO()
    torch.save(learner.state_dict(), file)
    file.seek(0)
    second = _model()
    learner = _learner(second, copy.deepcopy(algorithm))
    second.load_state_dict(first.state_dict())
    learner.load_state_dict(torch.load(file, weights_only=True))
    learner.learn(_rows(_STEP + 1), _STEP + 1)
    return "" if fingerprint(whole) == fingerprint(second) else "a resumed step differs from one that was not"


def _off(algorithm: Algorithm, declared: Declarations) -> str:
    assert declared.base is not None
    off = replace(algorithm, **declared.off)  # type: ignore[type-var]
    names = {field.name for field in dataclasses.fields(declared.base)}
    shared = {f.name: getattr(off, f.name) for f in dataclasses.fields(off) if f.name in names}  # type: ignore[arg-type]
    base = declared.base(**shared)
    for mini_batches in (1, 2):
        prints = [_trained(each, _rows(), mini_batches=mini_batches) for each in (off, base)]
        if prints[0] != prints[1]:
            settings = ", ".join(f"{name}={value}" for name, value in declared.off.items())
            return f"with {settings} it is not {declared.base.__name__} bit for bit"
    return ""


def _bounds(algorithm: Algorithm, declared: Declarations) -> str:
    assert declared.bounds is not None
    model, rows = _model(), _rows()
    low, high = declared.bounds
    for gap in (80.0, -80.0, 1.0, -1.0, 1e-3):
        batch, scores = _scored(algorithm, model, rows, gap)
        batch = batch.replace(advantages=torch.linspace(-2.0, 2.0, len(batch)))
        plain = batch.part("advantages")[:, None].expand(batch.mask.shape)
        batch = _shaped(algorithm, rows, batch)
        given = getattr(algorithm, "token_advantages", None)
        values = batch.part("advantages") if given is None else given(batch, scores, _STEP).values
        values = values if values.dim() == 2 else values[:, None].expand(batch.mask.shape)
        least, most = (torch.minimum, torch.maximum)
        here = batch.policy_mask
        inside = (values >= least(low * plain, high * plain) - 1e-6) & (
            values <= most(low * plain, high * plain) + 1e-6
        )
        if not inside[here].all():
            return f"a factor is outside {low:g} to {high:g} with gaps of {gap:g} nats"
    return ""


_FOR_ALL: Mapping[str, _Test] = MappingProxyType(
    {
        "padding": _padding,
        "finite": _finite,
        "micro-batches": _micro_batches,
        "row order": _row_order,
        "resume": _resume,
    }
)

# -- what they are made of -------------------------------------------------------------------


def _model() -> nn.Module:
    """Return a random model of 2 layers; the same each time, without touching torch's generator."""
    config = transformers.Qwen2Config(
        vocab_size=_VOCABULARY,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        initializer_range=0.3,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: nn.Module = transformers.Qwen2ForCausalLM(config)
    model.eval()
    return model


def _rows(seed: int = 0) -> list[Row]:
    """Return rows of 2 groups of 3 episodes of 2 turns, with all that a method may read.

    One response is empty, and one was cut at its limit.
    """
    rng = random.Random(seed)

    def ids(low: int, high: int) -> tuple[int, ...]:
        return tuple(rng.randrange(1, _VOCABULARY) for _ in range(rng.randint(low, high)))

    rows = []
    for number in range(12):
        group, episode, turn = number // 6, number // 2, number % 2
        is_success = episode % 3 == 0
        response = () if number == 3 else ids(2, 7)
        rows.append(
            Row(
                prompt_ids=ids(2, 9),
                response_ids=response,
                group_id=f"g{group}",
                episode_id=f"e{episode}",
                turn_index=turn,
                episode_return=10.0 * is_success,
                invalid_penalty=0.1 * (number == 4),
                is_truncated=number == 8,
                teacher_prompt_ids=None if number == 10 else ids(4, 14),
                turn_reward=10.0 * is_success * turn,
                state=f"state {turn * rng.randrange(2)}",
                is_success=is_success,
                more_teacher_prompts=() if number % 3 == 2 else (ids(4, 14),),
                answer_start=len(response) // 2,
            )
        )
    return rows


def _learner(model: nn.Module, algorithm: Algorithm, *, pad_id: int = 0, **settings: Any) -> Learner:
    chosen = LearnerSettings(**({"lr": 1e-2, "gradient_parts_every": 0} | settings))
    return Learner(model, algorithm, chosen, pad_id=pad_id, steps=100)


def _trained(algorithm: Algorithm, rows: Sequence[Row], **settings: Any) -> str:
    """Return the checksum of the model's weights after a step."""
    model = _model()
    _learner(model, algorithm, **settings).learn(rows, _STEP)
    return fingerprint(model)


def _descended(algorithm: Algorithm, rows: Sequence[Row], **settings: Any) -> nn.Module:
    """Return the model after a step of plain gradient descent, in which rounding stays rounding."""
    model = _model()
    learner = _learner(model, algorithm, **settings)
    learner.optimizer = torch.optim.SGD(model.parameters(), lr=0.1)  # type: ignore[assignment]
    learner.learn(rows, _STEP)
    return model


def _distance(left: nn.Module, right: nn.Module) -> float:
    pairs: Iterator[tuple[Tensor, Tensor]] = zip(left.parameters(), right.parameters(), strict=True)
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


def _scored(algorithm: Algorithm, model: nn.Module, rows: Sequence[Row], gap: float) -> tuple[Batch, Scores]:
    """Return a batch whose teacher, old and reference log-probs differ from the student's by a gap, and the scores."""
    batch = make_batch(algorithm.prepare_rows(rows), pad_id=0)
    options = algorithm.scoring_options(ScoringOptions(entropies=True))
    view = None
    if options.divergence is not None:
        teacher = batch.student if batch.teacher is None else batch.teacher
        view = view_teacher(model, replace(batch, teacher=teacher))
    scores = score(model, batch.student, batch.mask, options, teacher=view)
    own = scores.logprobs.detach()
    signs = torch.where(torch.arange(own.numel()).reshape(own.shape) % 3 == 0, -1.0, 1.0)
    teacher_logprobs = torch.where(batch.mask, own + gap * signs, 0.0)
    batch = batch.replace(
        old_logprobs=torch.where(batch.mask, own - gap / 4, 0.0),
        ref_logprobs=torch.where(batch.mask, own + gap, 0.0),
        more_teachers=tuple(replace(each, logprobs=own * batch.mask) for each in batch.more_teachers),
    )
    return replace(batch, teacher_logprobs=teacher_logprobs), scores


def _shaped(algorithm: Algorithm, rows: Sequence[Row], batch: Batch) -> Batch:
    if not algorithm.shapes_advantages:
        return batch
    prepared = algorithm.prepare_rows(rows)
    shaped = algorithm.shape_advantages(batch.part("advantages"), prepared, batch, _STEP)
    return batch.replace(advantages=shaped.values)


def _weighed(algorithm: Algorithm, batch: Batch) -> Batch:
    return batch.weighed(algorithm.aggregation, response_limit=algorithm.response_limit)
