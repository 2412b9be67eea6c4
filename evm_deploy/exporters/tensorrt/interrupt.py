"""Ctrl-C while a library works: it swallows what is raised in its callbacks, and would build on for minutes."""

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from typing import Any, TypeVar

T = TypeVar("T")


def run_interruptibly(work: Callable[[threading.Event], T]) -> T:
    """The result of `work`, which runs in a thread that no signal reaches.

    When the caller is interrupted, the event is set, and the interruption raised as soon as the work has given up.
    """
    stop, go = threading.Event(), threading.Event()

    def run() -> T:
        go.wait()
        if stop.is_set():
            raise CancelledError
        return work(stop)

    thread = ThreadPoolExecutor(1, "build")
    try:
        done = thread.submit(run)
        go.set()  # not before: an interruption while the thread is started leaves nobody to wait for it
        while not wait([done], timeout=0.1).done:
            pass  # a signal that comes just before the caller sleeps does not wake it
        return done.result()
    except BaseException:
        stop.set()
        go.set()
        raise
    finally:
        thread.shutdown()


def make_monitor(trt: Any, stop: threading.Event) -> Any:
    """A progress monitor of the library that ends a build when `stop` is set."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Asked after every step."""

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            """Nothing is shown."""

        def step_complete(self, phase: str, step: int) -> bool:
            return not stop.is_set()

        def phase_finish(self, phase: str) -> None:
            """Nothing is shown."""

    return Monitor()
