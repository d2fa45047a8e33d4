r"""Secrets of this process: API keys and tokens, read from environment variables and kept out of every text.

    key = read_secret("MY_KEY", argument="api_key_env")  # checked, and known from here on
    redact('{"error": "no such key: sk-\\u0031234567"}')  # '{"error": "no such key: [key]"}'

A secret is known once `read_secret` or `check_headers` has seen it. `redact` replaces each known one by `[key]`, as it
is and in the forms in which servers and libraries repeat it: escaped as in JSON, Python or C, in addresses and in HTML,
in base64 and in hexadecimal. It is called on what comes back from servers, after it is decoded, and on the text of each
error that is recorded or printed.

How much of a text may be replaced depends on the length of the secret:

- from eight characters, or from four of different kinds, such as `q7:x`: wherever it occurs, in capitals or not;
- from four to seven letters, or as many digits: where no letter or digit is next to it, because `shelf` is also a part
  of `bookshelf`;
- fewer, or one of the words that servers without keys are given (`EMPTY`, `ollama`): nowhere. That is no secret.

A secret that this package did not read is not known to it, and a server that repeats only a part of one, or one that
is enciphered, is not understood.
"""

from __future__ import annotations

import base64
import os
import re
import threading
from collections.abc import Callable, Mapping
from html.entities import html5
from typing import Any, NamedTuple

from sdar_envs.errors import InvalidOption, did_you_mean

__all__ = [
    "bearer_header",
    "check_headers",
    "check_no_secrets",
    "is_secret_name",
    "read_secret",
    "redact",
    "redact_all",
]

_REDACTED = "[key]"
_SHORTEST = 4
_SHORTEST_ANYWHERE = 8
_PLACEHOLDERS = frozenset(
    (
        *("anything", "dummy", "empty", "fake", "false", "key", "local", "lm-studio", "lmstudio", "llama", "nokey"),
        *("no-key", "no_key", "none", "not-needed", "not-required", "null", "ollama", "placeholder", "secret"),
        *("sglang", "sk-no-key-required", "test", "token", "unused", "vllm"),
    )
)

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_SECRET_NAME = re.compile(
    r"(^|[_-]|api|access|auth|secret)(key|secret|password|passwd|token|credentials?|authorization|cookie)$",
    re.IGNORECASE,
)
_SCHEME = re.compile(r"(?:bearer|basic|token)\s+", re.IGNORECASE)
# Forms that hardly anything but a key has: of model providers, code hosts, clouds, and signed tokens.
_KEY_LIKE = re.compile(
    r"""
    (?<![A-Za-z0-9]) (?:
      (?:sk|pk|rk|nvapi|pplx)[-_](?:[A-Za-z0-9_-]{0,200}[-_])?[A-Za-z0-9]{20,} | (?:gsk|hf|r8)_[A-Za-z0-9]{30,} |
      gh[opsu]_[A-Za-z0-9]{30,} | github_pat_[A-Za-z0-9_]{30,} | glpat-[A-Za-z0-9_-]{20,} |
      xox[abeprs]-[A-Za-z0-9-]{20,} | (?:AKIA|ASIA)[A-Z0-9]{16} | AIza[A-Za-z0-9_-]{30,} | xai-[A-Za-z0-9]{30,} |
      eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.
    ) | (?i:bearer)\s+[A-Za-z0-9._~+/-]{8,} | ://[^\s/?\#@:]{0,200}:[^\s/?\#@]{1,200}@
    """,
    re.VERBOSE,
)


# -- where secrets enter ----------------------------------------------------------------------------


def read_secret(variable: str, *, argument: str, default: str | None = None) -> str:
    """Return the secret that an environment variable holds, without blanks around it; it is known from then on.

    Args:
        variable: the variable's name.
        argument: what the name was given as, for error messages.
        default: the name that need not be set: servers on this machine mostly want no key.

    Returns:
        The secret; empty if the variable is.

    Raises:
        InvalidOption: there is no such variable, or no HTTP header can hold its value. The message shows neither: a
            name that no variable has may be the key itself.
    """
    hint = "Put the secret into an environment variable (export MY_KEY=...) and give the variable's name."
    if not isinstance(variable, str) or not _VARIABLE.fullmatch(variable):
        raise InvalidOption(
            f"{argument} is no name of an environment variable; it is not shown here, because it may be the secret "
            f"itself. {hint}"
        )
    if variable not in os.environ and variable != default:
        names = [name for name in os.environ if is_secret_name(name)]
        raise InvalidOption(
            f"{argument} names no environment variable that is set; it is not shown here, because it may be the secret "
            f"itself. {hint}{did_you_mean(variable, names)}"
        )
    secret = os.environ.get(variable, "").strip()
    if not _is_sendable(secret):
        raise InvalidOption(
            f"the key in ${variable} has characters that no HTTP header can hold (a line break, a blank, a control "
            "character, or a letter beyond ASCII): set it again."
        )
    _add(secret)
    return secret


def bearer_header(variable: str) -> dict[str, str]:
    """Return the header `Authorization` with the token that an environment variable holds; see `read_secret`.

    Raises:
        InvalidOption: there is no such variable, it is empty, or no HTTP header can hold its value.
    """
    token = read_secret(variable, argument="token_env")
    if not token:
        raise InvalidOption(f"${variable}, which token_env names, is empty: set it to the server's token.")
    return {"Authorization": f"Bearer {token}"}


def check_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers of an HTTP request as a dict. The values of those that hold secrets by their names are known then.

    Raises:
        InvalidOption: a name or value that HTTP cannot send. The message does not show the value.
    """
    for name, value in headers.items():
        if not isinstance(name, str) or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
            raise InvalidOption("headers has a name that HTTP cannot send; wanted one such as Authorization.")
        if not isinstance(value, str) or not all(map(_is_sendable, value.split(" "))):
            raise InvalidOption(
                f"the value of the header {name} has characters that HTTP cannot send, such as a line break: wanted "
                "visible ASCII characters and blanks."
            )
        if is_secret_name(name):
            _add(_SCHEME.sub("", value.strip(), count=1))
    return dict(headers)


def is_secret_name(name: str) -> bool:
    """Return whether a setting, header or variable with this name holds a secret, as `api_key` and `HF_TOKEN` do."""
    return _SECRET_NAME.search(name) is not None


def check_no_secrets(settings: Mapping[str, Any], *, whose: str = "setting") -> None:
    """Refuse settings that are to be recorded and hold a secret: by name, by form, or because it is a known one.

    Args:
        settings: JSON values, nested to any depth.
        whose: what one of them is called in the message.

    Raises:
        InvalidOption: one does; the message names it and does not show the value.
    """
    for name, value in settings.items():
        # A number is no secret: `pad_token: 0`.
        if is_secret_name(str(name)) and _any_text(value, bool):
            problem = "looks like a secret"
        elif _any_text(value, _holds_secret) or _holds_secret(str(name)):
            problem = "holds what looks like a secret"
        else:
            _check_nested(value, whose)
            continue
        shown = f"the {whose} {name!r}" if not _holds_secret(str(name)) else f"a {whose}"
        raise InvalidOption(
            f"{shown} {problem}, and settings are written into the run folder: put it into an environment variable "
            "(the openai agent takes its name as api_key_env)."
        )


def _check_nested(value: object, whose: str) -> None:
    if isinstance(value, Mapping):
        check_no_secrets(value, whose=whose)
    elif isinstance(value, list | tuple):
        for part in value:
            _check_nested(part, whose)


def _any_text(value: object, holds: Callable[[str], bool]) -> bool:
    if isinstance(value, str):
        return holds(value)
    return isinstance(value, list | tuple) and any(_any_text(part, holds) for part in value)


def _holds_secret(text: str) -> bool:
    return redact(text) != text or _KEY_LIKE.search(text) is not None


def _is_sendable(text: str) -> bool:
    return all("!" <= character <= "~" for character in text)


# -- where they are taken out -----------------------------------------------------------------------


class _Patterns(NamedTuple):
    """What to look for: forms that are one string each (listed in small letters), and those of single characters."""

    plain_forms: tuple[str, ...]
    plain: re.Pattern[str]
    escaped: re.Pattern[str]


_lock = threading.Lock()
_known: tuple[str, ...] = ()
_patterns: _Patterns | None = None


def redact(text: str) -> str:
    """Return the text with `[key]` in the place of each known secret, in all forms that the module's text names."""
    patterns = _patterns
    if patterns is None:
        return text
    # Before the plain forms: in `\u0073k-1...`, all but the first character may be a plain form of another secret.
    if "\\" in text or "%" in text or "&" in text:
        text = patterns.escaped.sub(_REDACTED, text)
    # Almost no text holds one, and `in` is a hundred times faster than the pattern.
    lowered = text.lower()
    return patterns.plain.sub(_REDACTED, text) if any(form in lowered for form in patterns.plain_forms) else text


def redact_all(value: Any) -> Any:
    """Return a JSON value with `redact` applied to all strings in it, names included."""
    if _patterns is None:
        return value
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {redact_all(name): redact_all(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [redact_all(part) for part in value]
    return value


def _add(secret: str) -> None:
    global _known, _patterns  # noqa: PLW0603  # what a process knows is one thing
    if len(secret) < _SHORTEST or secret.lower() in _PLACEHOLDERS:
        return
    with _lock:
        if secret in _known:
            return
        # Longest first: one secret may be the beginning of another.
        _known = tuple(sorted({*_known, secret}, key=len, reverse=True))
        _patterns = _Patterns(
            tuple({form.lower() for each in _known for form in (each, *_encoded_forms(each))}),
            re.compile("|".join(map(_plain, _known))),
            re.compile("|".join(_bounded(each, "".join(map(_escaped, each))) for each in _known)),
        )


def _plain(secret: str) -> str:
    return "|".join(
        [_bounded(secret, re.escape(secret)), *(f"(?i:{re.escape(form)})" for form in _encoded_forms(secret))]
    )


def _encoded_forms(secret: str) -> list[str]:
    """Return the secret as a whole in base64, alone and after its scheme, and in hexadecimal."""
    octets = secret.encode()
    forms = _base64_forms(b"Bearer " + octets)
    return forms if len(secret) < _SHORTEST_ANYWHERE else [*forms, *_base64_forms(octets), octets.hex()]


def _bounded(secret: str, pattern: str) -> str:
    """Return a pattern of a secret; of one that could be a word or a number, only where it stands alone."""
    if len(secret) >= _SHORTEST_ANYWHERE or not (secret.isalpha() or secret.isdigit()):
        return f"(?i:{pattern})"
    # The last character of an escape is no letter of the text.
    before = "".join(
        f"|(?<={escape})" for escape in (r"\\[nrtbf]", r"%[0-9A-Fa-f]{2}", r"\\x[0-9A-Fa-f]{2}", r"\\u[0-9A-Fa-f]{4}")
    )
    return f"(?:(?<![A-Za-z0-9]){before})(?:{pattern})(?![A-Za-z0-9])"


def _base64_forms(octets: bytes) -> list[str]:
    """Return what base64 of any text with these octets in it contains, for each of the three places to begin at."""
    forms = []
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + octets).decode().rstrip("=")
        # Digits at the edges also depend on the neighbours.
        start = -(-before * 8 // 6)
        end = (before + len(octets)) * 8 // 6
        forms += [encoded[start:end], encoded[start:end].replace("+", "-").replace("/", "_")]
    return list(dict.fromkeys(forms))


def _escaped(character: str) -> str:
    """Return a pattern of all forms of a character. Repetitions are bounded: the text may be an attacker's."""
    code = ord(character)
    entity = r"&(?:amp;){0,4}"
    forms = [
        rf"\\{{1,8}}(?i:u00{code:02x}|u\{{0{{0,6}}{code:x}\}}|x{code:02x})|\\{{1,8}}(?:{code:03o}|U000000{code:02x})",
        rf"%(?:25){{0,4}}(?i:{code:02x})",
        rf"{entity}\#0{{0,6}}{code};?|{entity}(?i:\#x0{{0,6}}{code:x});?",
        *(entity + re.escape(name) for name, meant in html5.items() if meant == character),
        r"\\{0,8}" + re.escape(character),  # last: a backslash is also the beginning of its own escapes
    ]
    return f"(?:{'|'.join(forms)})"
