"""Stages in threads: order, errors, bounded lead, a clean end."""

import contextlib
import threading
import time

import pytest

from lgmpose.inference.overlap import overlapped


def threads():
    return {thread for thread in threading.enumerate() if thread.is_alive()}


@pytest.mark.parametrize("ahead", [1, 3])
def test_items_come_in_order_and_the_source_runs_so_far_ahead_and_no_farther(ahead):
    made = []

    def source():
        for i in range(20):
            made.append(i)
            time.sleep(0.001)
            yield i

    for number, item in enumerate(overlapped(source(), ahead)):
        time.sleep(0.002)
        assert item == number and len(made) <= number + 1 + ahead
    assert number == 19 and list(overlapped([])) == [] and list(overlapped([None, None])) == [None, None]


def test_source_and_user_work_at_the_same_time():
    """Each waits for the other in every item: one after the other, they would wait for ever."""
    meeting = threading.Barrier(2, timeout=60)

    def source():
        yield 0
        for i in range(1, 4):
            meeting.wait()
            yield i

    received = []
    for item in overlapped(source()):
        received.append(item)
        if item < 3:
            meeting.wait()
    assert received == [0, 1, 2, 3]


def test_an_error_comes_out_in_its_place_through_several_stages():
    def source():
        yield from (1, 2)
        raise KeyError("broken")

    before, received = threads(), []
    with pytest.raises(KeyError, match="broken"), contextlib.closing(overlapped(source())) as first:
        with contextlib.closing(overlapped(map(str, first))) as second:
            for item in second:
                received.append(item)
    assert received == ["1", "2"] and threads() == before


def test_closed_early_the_threads_end_and_the_source_is_asked_no_more():
    before, made = threads(), []

    def source():
        for i in range(1000):
            made.append(i)
            yield i

    with pytest.raises(KeyboardInterrupt), contextlib.closing(overlapped(source())) as first:
        with contextlib.closing(overlapped(first)) as second:
            for item in second:
                if item == 3:
                    raise KeyboardInterrupt
    count = len(made)
    assert threads() == before and count <= 3 + 1 + 2 + 1
    time.sleep(0.02)
    assert len(made) == count
