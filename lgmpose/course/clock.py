"""Time small operations for the lessons. The measurements of the project have their own clock, in ``lgmpose.lab``."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["fastest_ms"]


def fastest_ms(function: Callable[[], object], seconds: float = 0.1) -> float:
    """Return the shortest time of one call, in milliseconds, of at least five calls.

    Other programs only ever add time. So the shortest call is the one that was disturbed least.

    Args:
        function: is called without arguments, in inference mode.
        seconds: how long to repeat the calls.
    """
    import torch  # ``lgmpose --help`` must not wait for it

    times: list[float] = []
    with torch.inference_mode():
        end = time.perf_counter() + seconds
        while len(times) < 5 or time.perf_counter() < end:
            start = time.perf_counter()
            function()
            times.append(1e3 * (time.perf_counter() - start))
    return min(times)
