"""Stages that work at the same time: while one item is drawn, the next is in the network, and the one after is read."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["overlapped"]

Item = TypeVar("Item")


def overlapped(source: Iterable[Item], ahead: int = 1) -> Generator[Item, None, None]:
    """The items of ``source`` in their order, each made in a thread while those before it are used.

    An error of the source comes out here, in its item's place. Close it (``contextlib.closing``) where it may not be
    read to its end: the thread has ended then.

    Args:
        source: is read in the other thread, one item at a time.
        ahead: at most so many items wait to be used.
    """
    items, end = iter(source), object()
    pool = ThreadPoolExecutor(1)
    try:
        waiting = deque(pool.submit(next, items, end) for _ in range(ahead))
        while (item := waiting.popleft().result()) is not end:
            waiting.append(pool.submit(next, items, end))
            yield item
            del item  # not held while the next one is waited for
    finally:
        pool.shutdown(cancel_futures=True)
