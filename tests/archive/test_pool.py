"""The pool: order, its bounds, and how it ends when something fails."""

from __future__ import annotations

import itertools
import random
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onggi.archive.pool import OrderedPool


class Interrupt(BaseException):
    """What a signal handler raises."""


class Failed(Exception):
    """An error of the test."""


def counter(count: int) -> Callable[[Any], int | None]:
    """Return a `take` that gives 0 to count - 1."""
    numbers = iter(range(count))
    return lambda _: next(numbers, None)


def pool_threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("onggi-")]


@given(count=st.integers(0, 40), threads=st.integers(1, 6), window=st.sampled_from([None, 1, 2, 9]))
@settings(max_examples=60)
def test_results_come_in_the_order_of_tasks(count: int, threads: int, window: int | None) -> None:
    noise = random.Random(count)
    delays = [noise.choice([0, 0, 0.001]) for _ in range(count)]

    def work(task: int, state: list[int]) -> int:
        time.sleep(delays[task])
        state.append(task)
        return task * task

    got: list[int] = []
    pool: OrderedPool[list[int], int, int] = OrderedPool(
        threads, list, counter(count), work, window
    )
    pool.run(got.append)
    assert got == [n * n for n in range(count)]
    assert not pool_threads()


def test_state_belongs_to_one_thread_each() -> None:
    owners: list[tuple[int, int]] = []

    def new_state() -> int:
        return threading.get_ident()

    numbers = iter(range(50))

    def take(state: int) -> int | None:
        owners.append((state, threading.get_ident()))
        return next(numbers, None)

    def work(task: int, state: int) -> None:
        owners.append((state, threading.get_ident()))

    OrderedPool(3, new_state, take, work).run(lambda _: None)
    assert all(state == thread for state, thread in owners)


@pytest.mark.parametrize(("threads", "window"), [(1, 1), (2, None), (3, 5), (4, 2)])
def test_no_more_tasks_are_taken_than_the_window_allows(threads: int, window: int | None) -> None:
    consumed = 0
    most = 0
    numbers = iter(range(60))

    def take(_: None) -> int | None:
        nonlocal most
        number = next(numbers, None)
        if number is not None:
            most = max(most, number + 1 - consumed)
        return number

    def consume(_: int) -> None:
        nonlocal consumed
        time.sleep(0.001)
        consumed += 1

    pool: OrderedPool[None, int, int] = OrderedPool(
        threads, lambda: None, take, lambda task, _: task, window
    )
    pool.run(consume)
    assert consumed == 60
    # `consume` has counted before the pool has: one more than the window can be seen.
    assert 1 <= most <= (window or 2 * threads) + 1


def test_take_is_called_by_one_thread_at_a_time() -> None:
    busy = threading.Lock()
    numbers = iter(range(40))

    def take(_: None) -> int | None:
        assert busy.acquire(blocking=False)
        time.sleep(0.0005)
        busy.release()
        return next(numbers, None)

    got: list[int] = []
    OrderedPool(4, lambda: None, take, lambda task, _: task).run(got.append)
    assert got == list(range(40))


def test_after_the_end_nobody_takes_again() -> None:
    calls = itertools.count()
    ends = 0

    def take(_: None) -> int | None:
        nonlocal ends
        if next(calls) < 5:
            return 1
        ends += 1
        return None

    OrderedPool(4, lambda: None, take, lambda task, _: task).run(lambda _: None)
    assert ends == 1


@pytest.mark.parametrize("where", ["new_state", "take", "work", "consume"])
@pytest.mark.parametrize("error", [Failed, Interrupt, KeyboardInterrupt, StopIteration])
@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_anywhere_ends_the_run_and_all_threads(
    where: str, error: type[BaseException], threads: int
) -> None:
    stopped: list[bool] = []
    got: list[int] = []
    numbers = iter(range(100))

    def fail(place: str, *, now: bool = True) -> None:
        if place == where and now:
            raise error("on purpose")

    def take(_: None) -> int | None:
        number = next(numbers)
        fail("take", now=number == 7)
        return number

    def work(task: int, _: None) -> int:
        fail("work", now=task == 7)
        return task

    def consume(result: int) -> None:
        fail("consume", now=result == 7)
        got.append(result)

    pool: OrderedPool[None, int, int] = OrderedPool(
        threads, lambda: fail("new_state"), take, work, on_stop=lambda: stopped.append(True)
    )
    with pytest.raises(error, match="on purpose"):
        pool.run(consume)
    assert pool.stopping
    assert stopped == [True]
    assert got == list(range(len(got)))
    assert len(got) <= 7
    assert not pool_threads()


def test_the_first_error_is_the_one_that_is_raised() -> None:
    second = threading.Event()

    def work(task: int, _: None) -> int:
        if task == 0:
            raise Failed("first")
        second.wait(5)
        raise Failed("second")

    pool: OrderedPool[None, int, int] = OrderedPool(
        2, lambda: None, counter(2), work, on_stop=second.set
    )
    with pytest.raises(Failed, match="first"):
        pool.run(lambda _: None)


def test_on_stop_wakes_a_take_that_waits_for_something_outside() -> None:
    wake = threading.Event()
    waiting = threading.Event()
    numbers = iter([0])

    def take(_: None) -> int | None:
        for number in numbers:
            return number
        waiting.set()
        assert wake.wait(10), "nobody woke it"
        return None

    def consume(_: int) -> None:
        waiting.wait(10)
        raise Interrupt

    pool: OrderedPool[None, int, int] = OrderedPool(
        2, lambda: None, take, lambda task, _: task, on_stop=wake.set
    )
    with pytest.raises(Interrupt):
        pool.run(consume)
    assert not pool_threads()


def test_work_under_way_can_see_that_it_should_end() -> None:
    seen = threading.Event()

    def work(task: int, _: None) -> int:
        if task == 0:
            return task
        while not pool.stopping:
            time.sleep(0.001)
        seen.set()
        return task

    def consume(_: int) -> None:
        raise Failed

    pool: OrderedPool[None, int, int] = OrderedPool(2, lambda: None, counter(9), work)
    with pytest.raises(Failed):
        pool.run(consume)
    assert seen.is_set()


def test_a_signal_ends_the_run_while_it_waits_for_a_result() -> None:
    def work(task: int, _: None) -> int:
        if task == 1:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
            while not pool.stopping:
                time.sleep(0.001)
        return task

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interrupt

    pool: OrderedPool[None, int, int] = OrderedPool(1, lambda: None, counter(9), work)
    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pytest.raises(Interrupt):
            pool.run(lambda _: None)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert not pool_threads()


def test_a_thread_that_can_not_be_started_is_an_error_and_the_others_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[threading.Thread] = []
    start = threading.Thread.start

    def failing(thread: threading.Thread) -> None:
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", failing)
    pool: OrderedPool[None, int, int] = OrderedPool(
        4, lambda: None, counter(9), lambda task, _: task
    )
    with pytest.raises(RuntimeError, match="can't start"):
        pool.run(lambda _: None)
    assert not any(thread.is_alive() for thread in started)


def test_a_result_is_let_go_before_the_next_one_is_waited_for() -> None:
    """A unit of 20 MiB must not stay in memory while its successor is made."""

    class Result:
        alive = 0

        def __init__(self) -> None:
            Result.alive += 1

        def __del__(self) -> None:
            Result.alive -= 1

    alive: list[int] = []

    def work(task: int, _: None) -> Result:
        time.sleep(0.002)
        alive.append(Result.alive)
        return Result()

    pool: OrderedPool[None, int, Result] = OrderedPool(1, lambda: None, counter(9), work, 1)
    pool.run(lambda _: None)
    assert set(alive) == {0}
