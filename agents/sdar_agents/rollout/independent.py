"""Independent episodes: each takes its next turn as soon as its own request is answered.

With an engine behind a server the slowest answer of a turn would hold up all other episodes of a batch. What an episode
does depends on its own seed and on its own answers alone, so the order in which answers come shows nowhere.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from sdar_agents.rollout.episode import RunningEpisode
from sdar_agents.rollout.prompts import TurnPrompt
from sdar_agents.types import Completion

__all__ = ["play_independently"]

Ask = Callable[[RunningEpisode, Counter[str]], Awaitable[tuple[TurnPrompt, Completion] | None]]
Take = Callable[[RunningEpisode, TurnPrompt, Completion], None]


def play_independently(
    episodes: Sequence[RunningEpisode],
    *,
    ask: Ask,
    take: Take,
    times: dict[str, float],
    counts: Counter[str],
    in_flight: int,
    progress: Callable[[int, int], object] | None = None,
) -> None:
    """Play episodes to their ends, at most so many at a time; they begin in their order.

    Args:
        episodes: that have begun; changed.
        ask: returns the prompt of an episode's next turn and its completion; None if that ended the episode.
        take: takes the turn. Called in a thread if the environment waits for others (`TextEnv.blocks_on_io`).
        times: gets `time/generate`, the time of the whole, of which `time/env` is within it.
        counts: for `ask`.
        in_flight: episodes that are played at a time.
        progress: called with the number of finished episodes and that of all, after each turn.

    Raises:
        Exception: the first that `ask` or `take` raises; the other episodes are given up.
    """
    done = 0

    async def play(episode: RunningEpisode, free: asyncio.Semaphore, threads: ThreadPoolExecutor) -> None:
        nonlocal done
        async with free:
            while episode.is_running:
                asked = await ask(episode, counts)
                if asked is None:
                    break
                started = time.perf_counter()
                if episode.env.blocks_on_io:
                    await asyncio.get_running_loop().run_in_executor(threads, take, episode, *asked)
                else:
                    take(episode, *asked)
                times["time/env"] += time.perf_counter() - started
                if progress is not None:
                    progress(done, len(episodes))
        done += 1
        if progress is not None:
            progress(done, len(episodes))

    async def play_all() -> None:
        free = asyncio.Semaphore(in_flight)
        with ThreadPoolExecutor(min(in_flight, 64)) as threads:
            async with asyncio.TaskGroup() as group:
                for episode in episodes:
                    group.create_task(play(episode, free, threads))

    started = time.perf_counter()
    _run(play_all())
    times["time/generate"] += time.perf_counter() - started


def _run(work: Awaitable[None]) -> None:
    """Run it in an event loop of its own, in a thread because the caller's may run one already, as notebooks do."""
    failures: list[BaseException] = []

    def target() -> None:
        try:
            asyncio.run(work)  # type: ignore[arg-type]
        except BaseExceptionGroup as group:
            failures.append(_first(group))
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
