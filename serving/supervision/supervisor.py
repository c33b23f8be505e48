"""The supervisor: follows the audit logs, has versions loaded, moves labels in one step, restarts what was killed."""

from __future__ import annotations

import contextlib
import logging
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from saman.configs.errors import UserError
from saman.registry.store.layout import find_model
from saman.registry.store.model_state import read_model
from saman.serving.front.example_request import ExampleRequest, example_request
from saman.serving.front.table import ServingTable
from saman.serving.supervision.arrivals import Arrivals, ServerEvent, Tell
from saman.serving.supervision.checking import Checker
from saman.serving.supervision.engine_process import EnginePool
from saman.serving.supervision.fronts import Fronts, front_settings
from saman.serving.supervision.loader import LoadedVersion, Loader
from saman.serving.supervision.runtime_folder import RuntimeFolder
from saman.serving.supervision.served_model import FollowedModel
from saman.serving.supervision.settings import ServeSettings
from saman.serving.supervision.wanted import wanted_model
from saman.serving.traffic import open_traffic

_TICK_SECONDS = 0.1
_BACKLOG = 1024
_log = logging.getLogger(__name__)


@dataclass
class _Leaving:
    """Versions that left the table with ``number``; their engines end when every front has drained."""

    number: int
    versions: list[LoadedVersion]


class Supervisor:
    """A server: its fronts, engines and models."""

    def __init__(self, settings: ServeSettings, tell: Tell) -> None:
        self._settings, self._tell = settings, tell
        self._traffic = open_traffic(settings.models_dir)
        self._models = [self._model(index) for index in range(len(settings.specs))]
        self._runtime = RuntimeFolder()
        self._engines = EnginePool(self._runtime.path, settings.threads, settings.batches)
        checker = Checker(settings.engine, self._runtime.path, self._engines)
        self._loader = Loader(checker, self._engines, settings.batches.rows)
        self._arrivals = Arrivals(checker, self._loader, tell)
        self._fronts: Fronts | None = None
        self._table, self._number = ServingTable(), 0
        self._leaving: list[_Leaving] = []
        self._results: queue.Queue[Callable[[], None]] = queue.Queue()
        self._looks: queue.Queue[threading.Event] = queue.Queue()
        self._reviving: set[str] = set()
        self._stopping = threading.Event()
        self._rest: socket.socket | None = None
        self._grpc: socket.socket | None = None

    def _model(self, index: int) -> FollowedModel:
        spec = self._settings.specs[index]
        folder = find_model(self._settings.models_dir, spec.name)
        state = read_model(folder)
        state.find(spec)  # a version or label that does not exist is refused before anything starts
        return FollowedModel(folder, spec, wanted_model(state, spec))

    # ---- life --------------------------------------------------------------------------------------------------

    @property
    def rest_port(self) -> int:
        """The port of the REST interface."""
        return int(self._rest.getsockname()[1]) if self._rest else 0

    @property
    def grpc_port(self) -> int:
        """The port of the gRPC interface."""
        return int(self._grpc.getsockname()[1]) if self._grpc else 0

    def describe(self) -> list[str]:
        """Each model with the version that answers and the engine."""
        found = []
        for model in self._models:
            number = model.served.default
            kind = model.loaded[number].kind if number in model.loaded else "no engine"
            found.append(f"{model.folder.name}:{number} ({kind})")
        return found

    def examples(self) -> list[ExampleRequest]:
        """A request that works, for each model where one is short enough."""
        found = (example_request(model) for model in self._table.models.values())
        return [request for request in found if request is not None]

    def run(self, ready: Callable[[Supervisor], None]) -> None:
        """Serve until ``stop``.

        Args:
            ready: Called when every model answers.

        Raises:
            UserError: A port is taken, or a model has no version that can be served.
        """
        try:
            self._rest = _listen(self._settings.host, self._settings.rest_port, is_reserved=False)
            self._grpc = _listen(self._settings.host, self._settings.grpc_port, is_reserved=True)
            self._load_first()
            about = front_settings(self._settings, self._rest.fileno(), self.grpc_port)
            self._fronts = Fronts(about, self._reload)
            self._fronts.start(self._settings.fronts)
            self._publish(self._settle())
            ready(self)
            while not self._stopping.wait(_TICK_SECONDS):
                self.tick()
        finally:
            self._close()

    def stop(self) -> None:
        """Answer what has arrived, then end ``run``; may be called by a signal handler."""
        self._stopping.set()

    def _load_first(self) -> None:
        for model in self._models:
            model.follow(self._traffic)
            for number in model.to_load():
                if not self._stopping.is_set():
                    self._arrivals.load_now(model, number)
            if not model.loaded and model.failed:
                problem, number = next(iter(model.failed.values())).problem, next(iter(model.failed))
                raise UserError(problem, where=f"{model.folder.name}:{number}", remedy="saman models verify")
            # Another version must not answer in the place of a default that cannot be loaded.
            if model.wanted.default not in model.loaded:
                failure = model.failed.get(model.wanted.default or 0)
                problem = failure.problem if failure else "no version can be served"
                raise UserError(problem, where=model.folder.name, remedy="saman models verify, rollback")

    def _close(self) -> None:
        if self._fronts is not None:
            self._fronts.end(self._settings.timeout_seconds + 10)
        for model in self._models:
            for version in model.loaded.values():
                version.end()
        for leaving in self._leaving:
            for version in leaving.versions:
                version.end()
        self._engines.close()
        for listener in (self._rest, self._grpc):
            if listener is not None:
                listener.close()
        self._runtime.remove()

    # ---- a step ------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Look after everything once."""
        asked = [self._looks.get_nowait() for _ in range(self._looks.qsize())]
        self._revive_engines()  # in threads, while the fronts below start
        self._engines.restore(is_urgent=bool(self._reviving))
        self._restart_fronts()
        with contextlib.suppress(queue.Empty):
            while True:
                self._results.get_nowait()()
        for model in self._models:
            if problem := model.follow(self._traffic):
                self._tell(ServerEvent(f"the audit log cannot be read; versions stay: {problem}", model.folder.name,
                                       is_problem=True))  # fmt: skip
        self._arrivals.start(self._models)
        self._publish(self._settle())
        self._end_drained()
        for looked in asked:
            looked.set()

    def _settle(self) -> list[LoadedVersion]:
        leaving = []
        for model in self._models:
            before = model.served
            leaving += model.settle()
            if model.served != before:
                shown = ", ".join(f"{label}={number}" for label, number in model.served.labels.items())
                text = f"version {model.served.default} answers" + (f" ({shown})" if shown else "")
                self._tell(ServerEvent(text, model.folder.name))
        return leaving

    def _publish(self, leaving: list[LoadedVersion]) -> None:
        """Have all fronts exchange the table, if it changed."""
        table = ServingTable({model.folder.name: model.row() for model in self._models})
        if table != self._table:
            self._table = table
            self._number += 1
            assert self._fronts is not None
            for problem in self._fronts.publish(table, self._number):
                self._tell(ServerEvent(f"a front cannot take a change: {problem}", is_problem=True))
        if leaving:
            self._leaving.append(_Leaving(self._number, leaving))
            for version in leaving:
                self._tell(ServerEvent("leaves after its last answer", version.model, version.number))

    def _end_drained(self) -> None:
        assert self._fronts is not None
        drained = self._fronts.drained()
        for leaving in [each for each in self._leaving if each.number <= drained]:
            self._leaving.remove(leaving)
            for version in leaving.versions:
                version.end()

    # ---- what was killed ---------------------------------------------------------------------------------------

    def _revive_engines(self) -> None:
        for model in self._models:
            for version in model.loaded.values():
                if version.engine.status() is not None and version.socket not in self._reviving:
                    self._reviving.add(version.socket)
                    text = f"its engine ended (status {version.engine.status()}) and is restarted"
                    self._tell(ServerEvent(text, version.model, version.number, is_problem=True))
                    threading.Thread(target=self._revive, args=(version,), daemon=True).start()

    def _revive(self, version: LoadedVersion) -> None:
        problem = ""
        try:
            self._loader.revive(version)
        except (UserError, OSError) as error:
            problem = str(error)
            time.sleep(1.0)

        def done() -> None:
            self._reviving.discard(version.socket)
            if problem:
                text = f"its engine cannot be restarted: {problem}"
                self._tell(ServerEvent(text, version.model, version.number, is_problem=True))

        self._results.put(done)

    def _restart_fronts(self) -> None:
        assert self._fronts is not None
        for status in self._fronts.replace_ended(self._table, self._number):
            self._tell(ServerEvent(f"a front ended (status {status}) and was replaced", is_problem=True))
        self._fronts.prepare_spare()

    def _reload(self) -> str:
        """Wait until the main thread has looked at the registry; called from another thread."""
        looked = threading.Event()
        self._looks.put(looked)
        if not looked.wait(self._settings.timeout_seconds):
            return "the registry was not read in time"
        return "; ".join(model.log_problem for model in self._models if model.log_problem)


def _listen(host: str, port: int, *, is_reserved: bool) -> socket.socket:
    """Take a port: listening for REST; only reserved for gRPC, which binds it again in every front."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    taken = socket.socket(family, socket.SOCK_STREAM)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT if is_reserved else socket.SO_REUSEADDR, 1)
        taken.bind((host, port))
        if not is_reserved:
            taken.listen(_BACKLOG)
            taken.setblocking(False)
            taken.set_inheritable(True)
    except OSError as error:
        taken.close()
        option = "--grpc-port" if is_reserved else "--port"
        problem = f"cannot listen on {host}:{port}: {error.strerror}"
        raise UserError(problem, where=option, remedy=f"give another {option}; 0 takes a free port") from error
    return taken


def serve(settings: ServeSettings, tell: Tell, ready: Callable[[Supervisor], None]) -> None:
    """Serve until SIGTERM or Ctrl-C; called from the main thread.

    Args:
        settings: What to serve, and how.
        tell: Receives events.
        ready: Called when every model answers.

    Raises:
        UserError: The settings expose models, a port is taken, or a model cannot be served.
    """
    settings.check()
    supervisor = Supervisor(settings, tell)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: supervisor.stop())
    supervisor.run(ready)
