"""N threads that take numbered tasks in order, and one place that gets the results in order.

Owns: threads, the order and its bounds, shutdown on errors. Must not know what a task is. This is
the method of the engine: take the next index, work on it, hand over; when none is left, end the
threads and confirm that every task was done.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

_State = TypeVar("_State")
_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


class OrderedPool(Generic[_State, _Task, _Result]):
    """Runs tasks in threads; see `run`.

    Args:
        threads: number of threads, at least 1.
        new_state: makes what one thread owns: buffers, contexts. Called in that thread.
        take: gives the next task, or None when there is no more. Called in order, by one thread
            at a time.
        work: does a task; called in many threads at once.
        window: how many tasks may be taken beyond those consumed; bounds the memory. Defaults to
            twice the number of threads.
        on_stop: called before the threads are waited for, when they must end early; it should
            wake a `take` that waits for something outside.
    """

    def __init__(
        self,
        threads: int,
        new_state: Callable[[], _State],
        take: Callable[[_State], _Task | None],
        work: Callable[[_Task, _State], _Result],
        window: int | None = None,
        on_stop: Callable[[], None] | None = None,
    ) -> None:
        self._threads = threads
        self._new_state = new_state
        self._take = take
        self._work = work
        self._window = window or 2 * threads
        self._on_stop = on_stop
        self._take_lock = threading.Lock()
        self._changed = threading.Condition()
        self._taken = 0
        self._consumed = 0
        self._end: int | None = None
        self._results: dict[int, _Result] = {}
        self._error: BaseException | None = None
        self._stopping = False

    @property
    def stopping(self) -> bool:
        """Whether tasks under way should end early, since their result is not wanted any more."""
        return self._stopping

    def run(self, consume: Callable[[_Result], None]) -> None:
        """Run all tasks; call `consume` in this thread with each result, in the order of tasks.

        Raises:
            BaseException: the first error of `new_state`, `take`, `work` or `consume`; also what
                a signal handler raises here. The threads have ended by then.
        """
        threads = [
            threading.Thread(target=self._serve, name=f"onggi-{n}", daemon=True)
            for n in range(self._threads)
        ]
        try:
            for thread in threads:
                thread.start()
            while True:
                with self._changed:
                    self._changed.wait_for(self._has_news)
                    if self._error:
                        raise self._error
                    if self._consumed == self._end:
                        break
                    result = self._results.pop(self._consumed)
                consume(result)
                del result  # or the next wait keeps a whole unit alive
                with self._changed:
                    self._consumed += 1
                    self._changed.notify_all()
        finally:
            with self._changed:
                self._stopping = True
                self._changed.notify_all()
            if self._on_stop:
                self._on_stop()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
        assert self._consumed == self._taken, "every task that was taken was consumed"

    def _has_news(self) -> bool:
        done = self._consumed == self._end
        return self._error is not None or done or self._consumed in self._results

    def _serve(self) -> None:
        try:
            state = self._new_state()
            while True:
                with self._take_lock:
                    with self._changed:
                        self._changed.wait_for(self._may_take)
                        if self._stopping or self._error or self._end is not None:
                            return
                        number = self._taken
                    task = self._take(state)
                    with self._changed:
                        if task is None:
                            self._end = number
                            self._changed.notify_all()
                            return
                        self._taken += 1
                result = self._work(task, state)
                del task
                with self._changed:
                    self._results[number] = result
                    self._changed.notify_all()
                del result
        except BaseException as error:  # it must reach the thread that waits
            with self._changed:
                self._error = self._error or error
                self._changed.notify_all()

    def _may_take(self) -> bool:
        over = self._stopping or self._error is not None or self._end is not None
        return over or self._taken < self._consumed + self._window
