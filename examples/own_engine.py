"""An inference engine of your own: plain sampling, one prompt at a time, without a KV cache.

Run `python own_engine.py`, or in this folder
`sdar eval sdar/ALFWorld-v0 --agent transformers --model DIR --agent-set engine=own_engine:PlainEngine`.
"""

from collections.abc import Sequence
from typing import Any

import torch

import sdar_envs
from sdar_agents import Completion, Request, Rollout, RolloutSettings, Sampling, StopReason
from sdar_agents.engines import ChatTemplate
from sdar_agents.sft.tiny import TinyModel, make_model, train_tokenizer


class PlainEngine:
    """A `sdar_agents.Policy`. In training, the weights of `model` change between calls of `generate`."""

    def __init__(self, model: Any, tokenizer: Any, **settings: Any) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.context_length: int | None = model.config.max_position_embeddings
        self.template = ChatTemplate(tokenizer, settings.get("template_options", {}))

    def render(self, messages: Sequence[Any]) -> str:
        return self.template.render(messages)

    def encode(self, text: str) -> tuple[int, ...]:
        return self.template.encode(text)

    @torch.inference_mode()
    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        return [self._complete(request, sampling) for request in requests]

    def _complete(self, request: Request, sampling: Sampling) -> Completion:
        generator = torch.Generator().manual_seed(request.seed)
        ids: list[int] = []
        chosen: list[float] = []
        while True:
            prompt = torch.tensor([[*request.prompt_ids, *ids]], device=self.model.device)
            logits = self.model(input_ids=prompt, logits_to_keep=1).logits[0, -1].float().cpu()
            logprobs = (logits / sampling.temperature).log_softmax(-1)
            token = logprobs.argmax() if sampling.greedy else torch.multinomial(logprobs.exp(), 1, generator=generator)
            ids.append(int(token))
            chosen.append(float(logprobs[ids[-1]]))
            text = self.tokenizer.decode(ids, skip_special_tokens=True)
            is_eos, is_stop = ids[-1] == self.tokenizer.eos_token_id, any(stop in text for stop in sampling.stop)
            if is_eos or is_stop or len(ids) == sampling.max_new_tokens:
                reason: StopReason = "eos" if is_eos else "stop" if is_stop else "length"
                return Completion(tuple(ids), tuple(chosen), text, reason)


if __name__ == "__main__":
    tokenizer = train_tokenizer(["You are in the middle of a room. Put a hot mug in a cabinet."])
    engine = PlainEngine(make_model(TinyModel(context_length=8192), tokenizer, seed=0), tokenizer)
    settings = RolloutSettings("sdar/ALFWorld-v0", {"max_steps": 2}, max_new_tokens=8)
    tasks = sdar_envs.tasks("sdar/ALFWorld-v0", split="train", limit=2)
    for trajectory in Rollout(settings, engine).collect(tasks, group_size=1, seed=0, step=0).trajectories:
        print(trajectory.task.id, [turn.completion.text for turn in trajectory.turns])
