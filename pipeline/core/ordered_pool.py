"""Threads that work a bounded number of items ahead, with results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_order(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    threads: int,
    max_ahead: int,
    initializer: Callable[[], None] | None = None,
) -> Iterator[Result]:
    """work(item) of each item, in their order, done by threads up to `max_ahead` items ahead.

    Items are drawn in the caller's thread, so that a generator of items computes while the
    threads work; no more than `max_ahead` are pending, so that memory does not grow with their
    number. Items that have not started when the caller stops, or anything raises, are cancelled.
    initializer: called by each thread before its first item.
    """
    pool = ThreadPoolExecutor(threads, initializer=initializer)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= max_ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
