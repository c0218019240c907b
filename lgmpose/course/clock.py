"""Time small operations for the lessons. The measurements of the project have their own clock, in ``lgmpose.lab``."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["fastest_ms"]


def fastest_ms(function: Callable[[], object], seconds: float = 0.1) -> float:
    """Return the shortest time of one call on one processor thread, in milliseconds, of at least five calls.

    It is the time in which the processor worked for this thread: a busy machine changes it little. Other programs only
    ever add time, so the shortest call is the one that was disturbed least.

    Args:
        function: is called without arguments, in inference mode.
        seconds: how long to repeat the calls.
    """
    import torch  # ``lgmpose --help`` must not wait for it

    # Windows counts a thread's time in steps of 16 ms.
    clock = time.thread_time if time.get_clock_info("thread_time").resolution < 1e-6 else time.perf_counter
    times: list[float] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        end = time.perf_counter() + seconds
        while len(times) < 5 or time.perf_counter() < end:
            start = clock()
            function()
            times.append(1e3 * (clock() - start))
    torch.set_num_threads(threads)
    return min(times)
