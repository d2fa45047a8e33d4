"""vLLM servers whose weights stay as they are, as a scorer of given tokens: the reference, or a frozen teacher.

They are started by hand, with the model that the run begins with:

    python -m vllm.entrypoints.openai.api_server --model MODEL --served-model-name policy --port 8001
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sdar_agents.engines.servers.vllm_client import VllmClient, probe_tokens, tolerance_of_probe
from sdar_agents.engines.servers.vllm_servers import wait_until_healthy
from sdar_envs.errors import InvalidOption

__all__ = ["VllmScorer"]

_SECONDS_TO_ANSWER = 30.0


class VllmScorer:
    """A `sdar_agents.learner.Scorer` that asks vLLM servers, each row the least busy of them.

    Args:
        tokenizer: of the model.
        servers: addresses, such as `http://127.0.0.1:8001`.
        dtype: of the servers' weights.
        in_flight: requests at a time.
        request_seconds: deadline of a request with all its retries.
        probe_tolerance: largest mean difference of log-probabilities of a probe, in nats; None for that of the dtype.

    Raises:
        InvalidOption: a setting is out of range, or there is no server.
        MissingExtra: the extra `openai-compatible` is not installed.
        EndpointError: a server does not answer.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        servers: Sequence[str] = (),
        dtype: str = "bfloat16",
        in_flight: int = 256,
        request_seconds: float = 600.0,
        probe_tolerance: float | None = None,
    ) -> None:
        self._tolerance = tolerance_of_probe(dtype, probe_tolerance)
        if not servers:
            raise InvalidOption("servers is empty; wanted addresses, such as http://127.0.0.1:8001.")
        self.tokenizer = tokenizer
        self._client = VllmClient(servers, in_flight=in_flight, request_seconds=request_seconds)
        for address in self._client.addresses:
            wait_until_healthy(address, _SECONDS_TO_ANSWER)

    def score(
        self, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], *, temperature: float
    ) -> list[list[float]]:
        """Return the log-probability of each token of each response after its prompt.

        Raises:
            InvalidOption: the temperature is not 1.
            EndpointError: a server does not answer.
        """
        return self._client.score_responses(prompts, responses, temperature=temperature)

    def probe_ids(self) -> tuple[int, ...]:
        """Return the tokens of the probe, from all over the vocabulary."""
        return probe_tokens(len(self.tokenizer))

    def check_probe(self, wanted: Sequence[float]) -> float:
        """Compare the servers' log-probabilities of the probe with the learner's; return the mean difference.

        Args:
            wanted: of each token of `probe_ids` but the first, under the weights that the servers should have.

        Raises:
            RunStopped: they differ by more than the tolerance.
        """
        advice = "Start it with the model that the run begins with, or raise probe_tolerance."
        return self._client.check(self.probe_ids(), wanted, self._tolerance, advice)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
