"""verl agent loops: the tasks of this package as rollouts of verl's trainer.

`sdar` builds each prompt anew from the last turns, and returns one training sequence for each turn (verl's trainer v1,
`trainer.use_v1=true`). `sdar_appended` is one growing chat and one sequence, in which what the environment says is
masked. A row of the data set chooses by its `agent_name`: `sdar_envs.to_parquet(..., layout="verl")` writes such rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

from sdar_envs.chat import ChatMode, ChatStep
from sdar_envs.errors import EndpointError, PromptTooLong
from sdar_envs.importing import extra_imports
from sdar_envs.integrations.episodes import ScoredEpisode, call, plain_messages

with extra_imports("verl", purpose="the agent loop"):
    from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopOutput, register

__all__ = ["AppendedAgentLoop", "WindowedAgentLoop"]

_TIMED = ("generate_sequences", "tool_calls")


class _Rollout:
    """The token ids of a chat and what of them the model wrote.

    Attributes:
        tokens: the prompt, completions and what followed them.
        mask: of all tokens behind the prompt; 1 where the model wrote them.
        logprobs: of these tokens in nats, 0 where the model did not write them; None if the server tells none.
        fields: what the server says besides, such as the versions of the weights (`min_global_steps`).
    """

    def __init__(self, tokens: list[int]) -> None:
        self.tokens = tokens
        self.mask: list[int] = []
        self.logprobs: list[float] | None = None
        self.fields: dict[str, Any] = {}

    def update(self, merged: tuple[Any, list[int], list[float] | None]) -> None:
        """Take over what a merge of verl's token builder returned."""
        result, self.mask, self.logprobs = merged
        self.tokens = list(result.token_ids)


class _SdarLoop(AgentLoopBase):  # type: ignore[misc]
    """What both loops share: making the episode, asking the model, taking steps.

    Args:
        env_id: the environment of rows that name none.
        env_arguments: arguments of the environment, which go before those of the row.
        style: see `ChatEpisode`, as are the next ones.
        history_length: of windowed prompts.
        system: text of a system message.
        prefilled: what the chat template puts at the start of the model's turn; None to find out whether it is
            `<think>`.
        **kwargs: what verl gives each loop.
    """

    mode: ChatMode

    def __init__(
        self,
        *args: Any,
        env_id: str | None = None,
        env_arguments: Mapping[str, Any] | None = None,
        style: str | None = None,
        history_length: int | None = None,
        system: str | None = None,
        prefilled: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._env: dict[str, Any] = {"env_id": env_id, "env_arguments": env_arguments}
        self._chat: dict[str, Any] = {"style": style, "history_length": history_length, "system": system}
        self._prefilled = prefilled
        self._seconds = dict.fromkeys(_TIMED, 0.0)

    async def _begin(self, row: Mapping[str, Any]) -> tuple[ScoredEpisode, ChatStep]:
        if self._prefilled is None:
            prompt = await self.ct_build_initial_tokens([{"role": "user", "content": "?"}])
            self._prefilled = "<think>" if self.tokenizer.decode(prompt).rstrip().endswith("<think>") else ""
        episode = ScoredEpisode.from_row(row, mode=self.mode, prefilled=self._prefilled, **self._env, **self._chat)
        return episode, await self._call(episode, episode.reset, task=row)

    async def _call(
        self, episode: ScoredEpisode, method: Callable[..., ChatStep], *args: Any, **kwargs: Any
    ) -> ChatStep:
        started = time.perf_counter()
        step = await call(episode, method, *args, **kwargs)
        self._seconds["tool_calls"] += time.perf_counter() - started
        return step

    async def _answer(self, rollout: _Rollout, request_id: str, sampling_params: Mapping[str, Any]) -> str:
        """Let the model go on, and return what it wrote."""
        started = time.perf_counter()
        generated = await self.server_manager.generate(
            request_id=request_id, prompt_ids=rollout.tokens, sampling_params=dict(sampling_params)
        )
        self._seconds["generate_sequences"] += time.perf_counter() - started
        if not generated.token_ids:
            raise EndpointError("the model server returned no token: there is nothing to train on.")
        newest = {name: value for name, value in generated.extra_fields.items() if name == "max_global_steps"}
        rollout.fields = {**generated.extra_fields, **rollout.fields, **newest}
        logprobs = generated.log_probs or None
        if not rollout.mask:
            rollout.logprobs = None if logprobs is None else []
        rollout.update(
            await self.ct_merge_assistant_token(
                rollout.tokens, generated.token_ids, rollout.mask, rollout.logprobs, assistant_logprobs=logprobs
            )
        )
        return str(self.tokenizer.decode(generated.token_ids, skip_special_tokens=True))

    def _output(self, rollout: _Rollout, turns: int) -> AgentLoopOutput:
        """Return a training sequence, without its reward."""
        limit = self.rollout_config.response_length
        start = len(rollout.tokens) - len(rollout.mask)
        seconds, self._seconds = self._seconds, dict.fromkeys(_TIMED, 0.0)
        return AgentLoopOutput(
            prompt_ids=rollout.tokens[:start],
            response_ids=rollout.tokens[start:][:limit],
            response_mask=rollout.mask[:limit],
            response_logprobs=None if rollout.logprobs is None else rollout.logprobs[:limit],
            num_turns=turns,
            metrics=seconds,
            extra_fields=dict(rollout.fields),
        )

    def _score(self, output: AgentLoopOutput, episode: ScoredEpisode, *, is_cut: bool) -> None:
        output.reward_score = episode.episode_return
        output.extra_fields["reward_extra_info"] = {**episode.metrics(), "cut": float(is_cut)}
        episode.close()


@register("sdar")
class WindowedAgentLoop(_SdarLoop):
    """Each turn is a sequence: a prompt that shows the last turns, and the completion.

    `run` returns them all, and the last one has the episode's reward. A prompt that is longer than
    `rollout.prompt_length` shows fewer turns.
    """

    mode: ChatMode = "windowed"

    async def run(self, sampling_params: dict[str, Any], **row: Any) -> list[AgentLoopOutput]:
        """Play the task of a row."""
        episode, step = await self._begin(row)
        outputs: list[AgentLoopOutput] = []
        while not step.is_over:
            rollout = _Rollout(await self._prompt(episode))
            text = await self._answer(rollout, uuid4().hex, sampling_params)
            outputs.append(self._output(rollout, 2))
            step = await self._call(episode, episode.step, text)
        self._score(outputs[-1], episode, is_cut=False)
        return outputs

    async def _prompt(self, episode: ScoredEpisode) -> list[int]:
        limit = self.rollout_config.prompt_length
        for shown in range(episode.conversation.shown_turns, -1, -1):
            tokens: list[int] = await self.ct_build_initial_tokens(plain_messages(episode.conversation.messages(shown)))
            # verl cuts a longer one to this length, from the left.
            if len(tokens) < limit:
                return tokens
        raise PromptTooLong(
            f"the prompt of turn {episode.turns + 1} of {episode.env.task.id} has {limit} tokens or more without past "
            "turns: raise actor_rollout_ref.rollout.prompt_length."
        )


@register("sdar_appended")
class AppendedAgentLoop(_SdarLoop):
    """An episode is one sequence: a growing chat, of which the model's own tokens are trained on.

    An episode ends early where the sequence has `rollout.response_length` tokens behind the first prompt; `cut` tells.
    """

    mode: ChatMode = "appended"

    async def run(self, sampling_params: dict[str, Any], **row: Any) -> AgentLoopOutput:
        """Play the task of a row."""
        episode, step = await self._begin(row)
        limits = self.rollout_config
        rollout, request_id = _Rollout(await self.ct_build_initial_tokens(plain_messages(step.messages))), uuid4().hex
        if len(rollout.tokens) >= limits.prompt_length:
            raise PromptTooLong(
                f"the first prompt of {episode.env.task.id} has {limits.prompt_length} tokens or more: raise "
                "actor_rollout_ref.rollout.prompt_length."
            )
        while not step.is_over and len(rollout.mask) < limits.response_length:
            text = await self._answer(rollout, request_id, sampling_params)
            step = await self._call(episode, episode.step, text)
            if not step.is_over:
                chat = plain_messages(step.messages)
                before = chat[: len(chat) - len(step.new_messages)]
                rollout.update(
                    await self.ct_merge_context_msg(before, chat, rollout.tokens, rollout.mask, rollout.logprobs)
                )
        output = self._output(rollout, 2 * episode.turns)
        self._score(output, episode, is_cut=not step.is_over)
        return output
