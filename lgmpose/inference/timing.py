"""Time several functions fairly on a machine whose speed drifts: in rounds, each of which runs every function once."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping

import numpy as np

__all__ = ["MIN_ROUNDS", "interleaved_times"]

MIN_ROUNDS = 10  # also of slow functions: a median of fewer rounds says little


def interleaved_times(
    calls: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 100,
    warmup: int = 10,
    max_seconds: float = math.inf,
    min_rounds: int = MIN_ROUNDS,
    synchronize: Callable[[], object] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, np.ndarray]:
    """Return the times of several functions in seconds, one per function and round.

    In every round each function runs once, in a random order from a fixed seed. So the times of one round were
    taken at almost the same moment. In the paired ratios ``times["a"] / times["b"]``, a slow phase of the machine
    cancels. Report their median. (``torch.utils.benchmark`` measures one function after the other, and needs PyTorch.)

    Args:
        calls: name → function without arguments.
        rounds: stop after this many rounds,
        warmup: calls of each function before the first round; three at most for a function slower than a second.
        max_seconds: or when the rounds have taken this long, whichever comes first,
        min_rounds: but not before this many rounds (or ``rounds``, if that is smaller).
        synchronize: waits until an accelerator has finished its work; called after each function.
        clock: returns the time in seconds; tests replace it.

    Returns:
        name → (rounds,) float64 seconds.
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
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        if number >= min_rounds and clock() - begin >= max_seconds:
            break
        shuffle(order)
        for name in order:
            start = clock()
            calls[name]()
            wait()
            times[name].append(clock() - start)
    return {name: np.array(seconds) for name, seconds in times.items()}
