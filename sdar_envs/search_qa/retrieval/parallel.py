"""Retriever that searches in several processes, which share the mapped files of one index.

    retriever = ParallelRetriever(partial(open_index, "wiki-18"), workers=8)

The queries of a search are dealt out to the processes; answers are those of one process, in the same order. A search of
one query is no faster. The pages of a mapped index are in memory once for all processes; an encoder is in each.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from threading import Lock
from typing import Any, Self

from sdar_envs.core import is_integer
from sdar_envs.errors import InvalidOption
from sdar_envs.search_qa.retrieval.engines.engine import check_request
from sdar_envs.search_qa.retrieval.retriever import Hit, RetrievalFailed, Retriever

__all__ = ["ParallelRetriever"]

_MOST_WORKERS = 256
_SECONDS_TO_END = 5.0


class ParallelRetriever:
    """Pool of processes, each with the same retriever. Threads may share it; they wait for each other.

    A process that ends, such as one that was killed for memory, fails the search that it was busy with; the next search
    starts another one.

    Args:
        opening: opens the retriever, in each process. It has to be picklable, such as a `functools.partial` of
            `open_index`.
        workers: how many processes.

    Raises:
        InvalidOption: the number of processes is out of range.
        SdarError: what `opening` raises.
    """

    def __init__(self, opening: Callable[[], Retriever], workers: int) -> None:
        if not (is_integer(workers) and 1 <= workers <= _MOST_WORKERS):
            raise InvalidOption(
                f"workers is {workers!r}; wanted how many processes search, from 1 to {_MOST_WORKERS}, such as one for "
                "each core."
            )
        self._opening = opening
        self._lock = Lock()
        self._workers: list[_Worker | None] = [None] * workers
        try:
            # Started together: each takes a while to import and to open.
            self._workers = [_Worker(opening, workers) for _ in range(workers)]
            facts = [worker.receive() for worker in self._workers if worker is not None]
        except BaseException:
            self.close()
            raise
        self._fingerprint, self._passage_count = facts[0]

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy starts processes of its own.
        return ParallelRetriever, (self._opening, len(self._workers))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the retriever in each process."""
        return str(self._fingerprint)

    @property
    def passage_count(self) -> int | None:
        """How many passages the corpus has; None if the retriever does not say."""
        return None if self._passage_count is None else int(self._passage_count)

    def search(self, queries: Sequence[str], k: int) -> list[tuple[Hit, ...]]:
        """Return the best passages for each query; see `Retriever.search`.

        Raises:
            InvalidOption: the queries are not a list of texts, or `k` is below 1.
            RetrievalFailed: a process has ended.
        """
        check_request(queries, k)
        count = min(len(self._workers), len(queries))
        found: list[tuple[Hit, ...]] = [()] * len(queries)
        failures: list[Exception] = []
        with self._lock:
            asked: list[int] = []
            for number in range(count):
                try:
                    self._worker(number).send((list(queries[number::count]), k))
                    asked.append(number)
                except Exception as error:
                    self._drop(number)
                    failures.append(error)
            # All answers are read, also after a failure: one that stays in a pipe would answer the next search.
            for number in asked:
                try:
                    found[number::count] = self._worker(number).receive()
                except RetrievalFailed as error:
                    failures.append(error)
                    if isinstance(error, _Ended):
                        self._drop(number)
                except Exception as error:
                    failures.append(error)
                except BaseException:
                    for each in asked:
                        self._drop(each)
                    raise
        if failures:
            raise failures[0]
        return found

    def close(self) -> None:
        """End the processes; a later search starts them again."""
        for number in range(len(self._workers)):
            self._drop(number)

    def _worker(self, number: int) -> _Worker:
        worker = self._workers[number]
        if worker is None:
            worker = _Worker(self._opening, len(self._workers))
            self._workers[number] = worker
            worker.receive()
        return worker

    def _drop(self, number: int) -> None:
        worker, self._workers[number] = self._workers[number], None
        if worker is not None:
            worker.close()


class _Ended(RetrievalFailed):
    """A process has ended."""


class _Worker:
    """A process and the pipe to it."""

    def __init__(self, opening: Callable[[], Retriever], workers: int) -> None:
        # Not forked: threads of a library do not survive that.
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, opening, workers), daemon=True, name="sdar-search")
        self._process.start()
        theirs.close()

    def send(self, request: object) -> None:
        try:
            self._pipe.send(request)
        except OSError as error:
            raise self._ended() from error

    def receive(self) -> Any:
        try:
            is_answer, value = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise self._ended() from error
        if not is_answer:
            raise value
        return value

    def close(self) -> None:
        self._pipe.close()  # which ends the process as soon as it has searched
        self._process.join(_SECONDS_TO_END)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()

    def _ended(self) -> _Ended:
        self._process.join(_SECONDS_TO_END)
        return _Ended(
            f"a process that searches has ended (exit status {self._process.exitcode}), perhaps for want of memory; "
            "the next search starts another one."
        )


def _work(pipe: Connection, opening: Callable[[], Retriever], workers: int) -> None:
    """Answer what comes through the pipe until its other end is closed, which a parent that dies does, too."""
    # Ctrl-C is for the parent, which then closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Read when a library is loaded: threads of all processes together are no more than there are cores.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))
    with suppress(EOFError, OSError):
        try:
            retriever = opening()
            _answer(pipe, lambda: (retriever.fingerprint, getattr(retriever, "passage_count", None)))
        except Exception as error:
            _answer_failure(pipe, error)
            return
        while True:
            queries, k = pipe.recv()
            _answer(pipe, partial(retriever.search, queries, k))


def _answer(pipe: Connection, make: Callable[[], object]) -> None:
    try:
        answer = make()
    except Exception as error:
        _answer_failure(pipe, error)
    else:
        pipe.send((True, answer))


def _answer_failure(pipe: Connection, error: Exception) -> None:
    try:
        pipe.send((False, error))
    except (EOFError, OSError):
        raise
    except Exception:  # an exception that cannot be pickled
        pipe.send((False, RetrievalFailed(f"{type(error).__name__}: {error}")))
