"""Text encoders for dense retrieval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdar_envs.errors import InvalidOption
from sdar_envs.files.weights import pickle_problem, pickled_weights
from sdar_envs.importing import import_extra

__all__ = ["Encoder", "sentence_encoder"]


@dataclass(frozen=True)
class Encoder:
    """Text encoder: a function from texts to vectors, with prefixes for queries and passages.

    Attributes:
        name: identifies the encoder; an index stores the name of the encoder that made its vectors.
        encode: takes n texts, returns (n, d) numbers; d is always the same.
        query_prefix: goes before a query, such as the `query: ` of E5.
        passage_prefix: goes before a passage, such as the `passage: ` of E5.
    """

    name: str
    encode: Callable[[Sequence[str]], Any]
    query_prefix: str = ""
    passage_prefix: str = ""

    def queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors of queries: (n, d).

        Raises:
            InvalidOption: the encoder returns something else.
        """
        return self._encode([self.query_prefix + text for text in texts])

    def passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors of passages: (n, d).

        Raises:
            InvalidOption: the encoder returns something else.
        """
        return self._encode([self.passage_prefix + text for text in texts])

    def _encode(self, texts: list[str]) -> NDArray[np.float32]:
        # Tokenizers refuse half a surrogate pair, which a model can well emit.
        texts = [text.encode(errors="replace").decode() for text in texts]
        vectors = np.ascontiguousarray(self.encode(texts), dtype=np.float32)
        if vectors.ndim != 2 or len(vectors) != len(texts) or not np.isfinite(vectors).all():
            raise InvalidOption(
                f"the encoder {self.name!r} made an array of shape {vectors.shape} of {len(texts)} texts; "
                f"wanted ({len(texts)}, d) finite numbers."
            )
        return vectors


def sentence_encoder(
    name: str,
    *,
    query_prefix: str = "query: ",
    passage_prefix: str = "passage: ",
    device: str | None = None,
    batch_size: int = 64,
) -> Encoder:
    """Return a sentence-transformers model as an encoder with vectors of length 1.

    Args:
        name: a model's name or folder, such as `intfloat/e5-base-v2`.
        query_prefix: what the model wants before a query; the default is E5's.
        passage_prefix: what it wants before a passage; the default is E5's.
        device: such as `cuda`; by default the package chooses.
        batch_size: texts at once.

    Raises:
        MissingExtra: sentence-transformers is not installed.
        InvalidOption: the model cannot be loaded, needs code of its own, or has pickled weights.
    """
    package = import_extra("sentence_transformers", extra="embedding", purpose="an encoder by name")
    pickled = pickled_weights(name)
    if pickled:
        raise InvalidOption(f"the encoder {name!r} cannot be loaded: {pickle_problem(pickled)}.")
    try:
        model = package.SentenceTransformer(
            name, device=device, trust_remote_code=False, model_kwargs={"use_safetensors": True}
        )
    except Exception as error:  # of transformers, safetensors, torch: what the cause happens to run into
        raise InvalidOption(f"the encoder {name!r} cannot be loaded: {_reason(error)}.") from error

    def encode(texts: Sequence[str]) -> Any:
        return model.encode(
            list(texts),
            batch_size=batch_size,
            convert_to_numpy=True,
            normalize_embeddings=True,
            show_progress_bar=False,
        )

    return Encoder(name, encode, query_prefix, passage_prefix)


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    if "trust_remote_code" in text or "custom code" in text:
        return "it brings code of its own, which is not run here (trust_remote_code): choose another model"
    if "named model.safetensors" in text and "use_safetensors" in text:
        return pickle_problem(["pytorch_model.bin"])
    return f"{type(error).__name__}: {text[:300]}"
