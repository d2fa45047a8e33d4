"""An inference engine of your own: plain sampling, one prompt at a time, without a KV cache.

    python examples/own_engine.py
    cd examples && sdar eval sdar/ALFWorld-v0 --agent transformers --model FOLDER --set engine=own_engine:PlainEngine
"""

from collections.abc import Sequence
from typing import Any

import torch

from sdar_agents import Completion, Request, Rollout, RolloutSettings, Sampling
from sdar_agents.sft.tiny import TINY_MODELS, make_model, train_tokenizer


class PlainEngine:
    """A `sdar_agents.Policy`. In training, `model` is the model that is trained, so its weights change between calls."""

    def __init__(self, model: Any, tokenizer: Any, **settings: Any) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.context_length: int | None = model.config.max_position_embeddings
        self._template_options = settings.get("template_options", {})

    def render(self, messages: Sequence[Any]) -> str:
        options = {"tokenize": False, "add_generation_prompt": True, **self._template_options}
        return str(self.tokenizer.apply_chat_template(list(messages), **options))

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    @torch.inference_mode()
    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        return [self._complete(request, sampling) for request in requests]

    def _complete(self, request: Request, sampling: Sampling) -> Completion:
        generator = torch.Generator().manual_seed(request.seed)
        ids: list[int] = []
        chosen: list[float] = []
        while True:
            prompt = torch.tensor([[*request.prompt_ids, *ids]], device=self.model.device)
            logits = self.model(input_ids=prompt).logits[0, -1].float().cpu()
            logprobs = (logits / sampling.temperature).log_softmax(-1)
            token = logprobs.argmax() if sampling.greedy else torch.multinomial(logprobs.exp(), 1, generator=generator)
            ids.append(int(token))
            chosen.append(float(logprobs[ids[-1]]))
            text = self.tokenizer.decode(ids, skip_special_tokens=True)
            if ids[-1] == self.tokenizer.eos_token_id:
                return Completion(tuple(ids), tuple(chosen), text, "eos")
            if any(stop in text for stop in sampling.stop) or len(ids) == sampling.max_new_tokens:
                return Completion(tuple(ids), tuple(chosen), text, "length" if not sampling.stop else "stop")


if __name__ == "__main__":
    tokenizer = train_tokenizer(["put a hot mug in a cabinet"])
    engine = PlainEngine(make_model(TINY_MODELS["tiny-test"], tokenizer, seed=0), tokenizer)
    with_limits = RolloutSettings("sdar/ALFWorld-v0", {"max_steps": 2}, max_new_tokens=8)
    rollout = Rollout(with_limits, engine)
    result = rollout.collect(list(rollout.envs[0].source), group_size=2, seed=0, step=0)
    print(result.metrics)
