"""Time several functions fairly on a machine whose speed drifts: in rounds, each of which runs every function once."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np

__all__ = ["interleaved_times", "timed_rounds"]

MIN_ROUNDS = 10  # also of slow functions: a median of fewer rounds says little


def interleaved_times(calls: Mapping[str, Callable[[], object]], **options) -> dict[str, np.ndarray]:
    """Return the times of several functions, in seconds, one per function and round.

    Round i of one function and round i of another ran within the same moment, so ``times["a"] / times["b"]`` is a
    paired ratio in which a slow phase of the machine cancels; its median is what to report.

    Args:
        calls: name → function without arguments.
        **options: those of ``timed_rounds``.

    Returns:
        name → (rounds,) float64 seconds; all arrays have the same length.
    """
    rounds = list(timed_rounds(calls, **options))
    return {name: np.array([times[name] for times in rounds]) for name in calls}


def timed_rounds(
    calls: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 100,
    warmup: int = 10,
    max_seconds: float = math.inf,
    min_rounds: int = MIN_ROUNDS,
    synchronize: Callable[[], object] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[dict[str, float]]:
    """Yield the seconds that each function took, round by round. An exception of a function is raised here.

    In every round each function runs once, in an order drawn anew with a fixed seed. ``torch.utils.benchmark`` measures
    one function after the other and needs PyTorch; this compares functions and needs neither.

    Args:
        calls: name → function without arguments.
        rounds: stop after this many rounds,
        warmup: calls of each function before the first round. A function slower than a second is warmed up three times
            at most.
        max_seconds: or when the rounds have taken this long, whichever comes first,
        min_rounds: but not before this many rounds (or ``rounds``, if that is smaller).
        synchronize: waits until an accelerator has finished its work; called before each clock reading.
        clock: returns the time in seconds; tests replace it.
    """
    wait = synchronize or (lambda: None)
    for call in calls.values():
        start = clock()
        for done in range(warmup):
            if done >= 3 and clock() - start > done:
                break
            call()
        wait()
    order, shuffle, begin = list(calls), random.Random(0).shuffle, clock()
    for number in range(rounds):
        if number >= min_rounds and clock() - begin >= max_seconds:
            return
        shuffle(order)
        times = {}
        for name in order:
            wait()
            start = clock()
            calls[name]()
            wait()
            times[name] = clock() - start
        yield times
