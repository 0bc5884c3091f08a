"""Work that overlaps with its neighbours': threads a bounded number of items ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    threads: int,
    most: int,
    begin: Callable[[], None] | None = None,
) -> Iterator[Result]:
    """work(item) of each item, in their order, done by threads up to `most` items ahead.

    Items are drawn in the caller's thread, so that a generator of items computes while the
    threads work; no more than `most` are waited for, so that memory does not grow with their
    number. What is not begun when the caller stops, or anything raises, is never begun.
    begin: what each thread does first of all.
    """
    pool = ThreadPoolExecutor(threads, initializer=begin)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
