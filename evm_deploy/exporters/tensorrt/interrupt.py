"""Makes Ctrl-C work during a build: the library ignores exceptions in its callbacks, and would continue for minutes."""

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from typing import Any, TypeVar

T = TypeVar("T")


def run_interruptibly(work: Callable[[threading.Event], T]) -> T:
    """Returns the result of `work`, which runs in a thread that receives no signals.

    When the caller is interrupted, the event is set, and the interruption is raised as soon as the work has stopped.
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
        go.set()  # only now: nobody would wait for the thread after an interruption during its start
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
    """Makes a progress monitor for the library that ends a build when `stop` is set."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """The library calls it after every step."""

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            """Nothing is shown."""

        def step_complete(self, phase: str, step: int) -> bool:
            return not stop.is_set()

        def phase_finish(self, phase: str) -> None:
            """Nothing is shown."""

    return Monitor()
