"""Has versions checked and loaded beside the traffic.

Checks run one at a time for what the registry wants, and one at a time for what it may promote: at the lowest priority,
except before the server answers, and where others leave the lowest priority too little of the machine.
A checked version is loaded at once: requests wait for it.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from saman.configs.errors import UserError
from saman.serving.supervision.checking import Checker
from saman.serving.supervision.engine_process import EngineStarved
from saman.serving.supervision.loader import Loader
from saman.serving.supervision.served_model import FollowedModel


@dataclass(frozen=True)
class ServerEvent:
    """Something that an operator may want to know; ``version`` is 0 for an event of a model or of the server."""

    text: str
    model: str = ""
    version: int = 0
    is_problem: bool = False

    def __str__(self) -> str:
        place = f"{self.model}:{self.version}: " if self.version else f"{self.model}: " if self.model else ""
        return place + self.text


Tell = Callable[[ServerEvent], None]
Finish = Callable[[], None]


class Arrivals:
    """Versions on their way into a server. All methods are called from the main thread.

    Args:
        checker: Checks versions.
        loader: Loads them.
        tell: Receives events.
    """

    def __init__(self, checker: Checker, loader: Loader, tell: Tell) -> None:
        self._checker, self._loader, self._tell = checker, loader, tell
        self._results: queue.Queue[Finish] = queue.Queue()
        self._is_checking = self._is_preparing = False

    def load_now(self, model: FollowedModel, number: int) -> None:
        """Check and load a version before the server starts."""
        self._load(model, number, is_urgent=True)()

    def start(self, models: Iterable[FollowedModel]) -> None:
        """Take up what finished, then begin with what is wanted."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._results.get_nowait()()
        for model in models:
            for number in model.to_load():
                is_checked = self._checker.holds(model.folder.name, number)
                if is_checked or not self._is_checking:
                    self._start_load(model, number, is_checked)
        for model in models:
            self._prepare_next(model)

    def _start_load(self, model: FollowedModel, number: int, is_checked: bool) -> None:
        model.busy.add(number)
        self._is_checking |= not is_checked
        is_urgent = number in model.failed and model.failed[number].was_starved

        def work() -> Finish:
            finish = self._load(model, number, is_urgent=is_urgent)

            def done() -> None:
                model.busy.discard(number)
                self._is_checking &= is_checked
                finish()

            return done

        self._in_thread(work, is_low=not is_checked and not is_urgent)

    def _prepare_next(self, model: FollowedModel) -> None:
        """Check a version that may be promoted; nothing waits for it."""
        name = model.folder.name
        self._checker.keep(name, {*model.wanted.load, *model.wanted.promotable, *model.loaded, *model.busy})
        if self._is_preparing or self._is_checking:
            return
        waiting = (n for n in model.wanted.promotable if n not in model.unfit and not self._checker.holds(name, n))
        number = next(waiting, None)
        if number is not None:
            self._is_preparing = True
            self._in_thread(lambda: self._prepare(model, number), is_low=True)

    def _prepare(self, model: FollowedModel, number: int) -> Finish:
        problem = ""
        try:
            self._checker.require_room(model.folder, number)
            self._checker.check(model.folder, number)
        except (UserError, OSError) as error:
            problem = _text(error)

        def done() -> None:
            self._is_preparing = False
            if problem:
                model.unfit.add(number)
                text = f"is not prepared for a promotion: {problem}"
                self._tell(ServerEvent(text, model.folder.name, number, is_problem=True))

        return done

    def _load(self, model: FollowedModel, number: int, *, is_urgent: bool) -> Finish:
        """Load a version; returns what the main thread does about it."""
        began, name = time.monotonic(), model.folder.name
        try:
            loaded = self._loader.load(model.folder, number, is_urgent=is_urgent)
        except (UserError, OSError) as error:
            problem, was_starved = _text(error), isinstance(error, EngineStarved)

            def fail() -> None:
                model.fail(number, problem, was_starved=was_starved)
                self._tell(ServerEvent(f"is not served: {problem}", name, number, is_problem=True))

            return fail

        def take() -> None:
            model.loaded[number] = loaded
            model.failed.pop(number, None)
            seconds = time.monotonic() - began
            self._tell(ServerEvent(f"loaded, checked and warmed in {seconds:.1f} s ({loaded.kind})", name, number))

        return take

    def _in_thread(self, work: Callable[[], Finish], *, is_low: bool) -> None:
        def run() -> None:
            if is_low:
                with contextlib.suppress(OSError):
                    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)  # of this thread, on Linux
            self._results.put(work())

        threading.Thread(target=run, daemon=True).start()


def _text(error: UserError | OSError) -> str:
    return error.one_line() if isinstance(error, UserError) else str(error)
