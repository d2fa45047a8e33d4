"""Reading of completions: what a policy wrote, parsed as its prompt asked for it.

Rollouts and the chat agent share `CompletionReader`, so that they agree on where a thought begins.
"""

from __future__ import annotations

import warnings

from sdar_agents.engines.chat.chat_template import opened_thought
from sdar_agents.types import Completion
from sdar_envs.prompt import ParsedCompletion, PromptStyle, parse_completion

__all__ = ["CompletionReader", "infer_prefilled", "prefilled_of"]


class CompletionReader:
    """Parses the completions of a policy.

    Args:
        policy: whose completions are read.
        prefilled: what the chat template puts at the start of the model's turn, such as `<think>`; None to find it out
            (see `prefilled_of`). If that cannot be known, as behind an endpoint, a completion in which `</think>` comes
            without a `<think>` before it is read as if `<think>` had been there, and a warning says so once.

    Attributes:
        prefilled: as given or found; None if it is not known.
    """

    def __init__(self, policy: object, prefilled: str | None = None) -> None:
        self.prefilled = prefilled_of(policy) if prefilled is None else prefilled
        self._has_warned = False

    def read(self, completion: Completion, style: PromptStyle) -> ParsedCompletion:
        """Parse a completion; reasoning that came apart is the thought, and not joined with the text."""
        prefilled = self.prefilled
        if prefilled is None:
            prefilled = infer_prefilled(completion.text) if completion.reasoning is None else ""
            if prefilled and not self._has_warned:
                self._has_warned = True
                warnings.warn(
                    "a completion ends a thought with </think> that it did not begin: the chat template seems to open "
                    "<think> itself, and completions are read so. Set prefilled to '<think>', so that cut thoughts are "
                    "known too, or to '' if the model has made a mistake.",
                    RuntimeWarning,
                    stacklevel=2,
                )
        return parse_completion(
            completion.text,
            style,
            prefilled=prefilled,
            reasoning=completion.reasoning,
            tool_calls=completion.tool_calls,
        )


def infer_prefilled(text: str) -> str:
    """Return `<think>` if a completion ends a thought that it did not begin, else ""."""
    before, ended, _ = text.partition("</think>")
    return "<think>" if ended and "<think>" not in before else ""


def prefilled_of(policy: object) -> str | None:
    """Return what a policy's chat template puts at the start of the model's turn; "" for nothing, None if unknown.

    It is the policy's attribute `prefilled`, or the opened think tag at the end of a prompt that it renders.
    """
    if hasattr(policy, "prefilled"):
        found: str | None = policy.prefilled
        return found
    render = getattr(policy, "render", None)
    return None if render is None else opened_thought(render([{"role": "user", "content": "Go on."}]))
