"""Errors of chat templates: one line that says which rule of the template the messages break, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sdar_envs.errors import InvalidOption

__all__ = ["template_errors"]


@contextmanager
def template_errors(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> Iterator[None]:
    """Context for the application of a tokenizer's chat template.

    A template has rules of its own (`raise_exception`): that there is no system message, that roles alternate. It may
    also be broken, or read options that it is not given.

    Args:
        tokenizer: whose template it is.
        messages: what it is applied to.

    Raises:
        InvalidOption: the template raised.
    """
    try:
        yield
    except Exception as error:  # Jinja2's errors, and what the template's expressions run into
        roles = [str(message.get("role")) for message in messages]
        problem = " ".join(str(error).split()) or type(error).__name__
        if "system" in roles:
            advice = (
                "if it takes no system message, put that text into the user's: leave out the setting `system`, and "
                "show skills with placement user"
            )
        else:
            advice = "set template_options if the template reads options, or choose another model"
        raise InvalidOption(
            f"the chat template of {getattr(tokenizer, 'name_or_path', '') or 'the tokenizer'} cannot render messages "
            f"with the roles {', '.join(roles)} ({type(error).__name__}: {problem}); {advice}."
        ) from error
