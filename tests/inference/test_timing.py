"""Interleaved timing, on a clock that only the timed functions move."""

import numpy as np
import pytest

from lgmpose.inference.timing import interleaved_times


class Machine:
    """A clock, and functions that take a known time on it and note that they ran."""

    def __init__(self):
        self.now, self.ran = 0.0, []

    def clock(self):
        return self.now

    def function(self, name, seconds):
        def call():
            self.ran.append(name)
            self.now += seconds * (2 if self.now > 100 else 1)  # a machine that becomes slower

        return call


def test_every_round_runs_every_function_once_and_ratios_survive_a_slow_phase():
    machine = Machine()
    calls = {"a": machine.function("a", 1.0), "b": machine.function("b", 4.0)}
    times = interleaved_times(calls, rounds=30, warmup=2, clock=machine.clock)
    assert [len(values) for values in times.values()] == [30, 30]
    rounds = np.array(machine.ran[4:]).reshape(30, 2)
    assert all(set(pair) == {"a", "b"} for pair in rounds) and len({tuple(pair) for pair in rounds}) == 2
    assert set(times["a"]) == {1.0, 2.0} and np.median(times["b"] / times["a"]) == 4.0


@pytest.mark.parametrize(
    "options, expected",
    [({"rounds": 7}, 7), ({"max_seconds": 5.5}, 10), ({"max_seconds": 25.5}, 26), ({"rounds": 4, "max_seconds": 1}, 4),
     ({"max_seconds": 1, "min_rounds": 3}, 3), ({}, 100)],
)  # fmt: skip
def test_the_number_of_rounds(options, expected):
    machine = Machine()
    calls = {"a": machine.function("a", 0.5), "b": machine.function("b", 0.5)}
    assert len(interleaved_times(calls, warmup=0, clock=machine.clock, **options)["a"]) == expected


@pytest.mark.parametrize(
    "seconds, options, expected", [(0.1, {}, 10), (0.1, {"warmup": 5}, 5), (2.0, {}, 3), (2.0, {"warmup": 2}, 2)]
)
def test_warm_up_is_shorter_for_slow_functions_only(seconds, options, expected):
    machine = Machine()
    interleaved_times({"a": machine.function("a", seconds)}, rounds=0, **options, clock=machine.clock)
    assert len(machine.ran) == expected


def test_the_device_is_waited_for_within_the_time():
    machine = Machine()
    pending = [0.0]

    def wait():
        machine.now, pending[0] = machine.now + pending[0], 0.0

    def launch():
        pending[0] = 3.0

    times = interleaved_times({"a": launch}, rounds=2, warmup=1, synchronize=wait, clock=machine.clock)
    assert list(times["a"]) == [3.0, 3.0]


def test_an_error_of_a_function_is_raised():
    with pytest.raises(ZeroDivisionError):
        interleaved_times({"a": lambda: 1 / 0})
