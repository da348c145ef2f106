"""The parts that a process needs, each made once, on first use, under a lock.

Lazily, because a CUDA context and OpenMP's threads do not survive a fork: a prefork child
makes its own. Under a lock, because in a thread pool all first jobs arrive together.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from storage.database import make_engine, make_sessions
from storage.images import Images, S3Config
from storage.reference_cache import ReferenceCache
from worker.keys import chain_keys
from worker.ledger import Ledger
from worker.sandbox import Sandbox
from worker.settings import Settings, load_settings
from worker.stages import Serving, Stages, together
from worker.succession import Succession

if TYPE_CHECKING:  # importing torch takes seconds that submitting a job need not pay
    from model.checkpoint import Checkpoint
    from model.inference import Embedder
    from worker.loaded import LoadedModels


class Runtime:
    """Settings, and what is built from them: database sessions, image store, models."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._lock = threading.RLock()
        self._engine: Engine | None = None
        self._sessions: sessionmaker[Session] | None = None
        self._images: Images | None = None
        self._sandbox: Sandbox | None = None
        self._models: LoadedModels | None = None
        self._serves = False
        self._serving: Serving | None = None
        self._succession: Succession | None = None

    @property
    def sessions(self) -> sessionmaker[Session]:
        """Makes database sessions; connects when one is first used."""
        with self._lock:
            if self._sessions is None:
                self._engine = make_engine(self.settings.database_url)
                self._sessions = make_sessions(self._engine, chain_keys(self.settings).current)
            return self._sessions

    @property
    def images(self) -> Images:
        """Documents and enrolled images; connects when one is first fetched."""
        with self._lock:
            if self._images is None:
                self._images = make_images(self.settings)
            return self._images

    @property
    def sandbox(self) -> Sandbox | None:
        """Where documents are decoded; None is this process. Starts no child before the first."""
        with self._lock:
            if self._sandbox is None and self.settings.decoders:
                self._sandbox = Sandbox(
                    children=self.settings.decoders,
                    seconds=self.settings.decode_timeout,
                    memory=self.settings.decode_memory,
                )
            return self._sandbox

    @property
    def models(self) -> LoadedModels:
        """The models of this process; loads none before it is asked for one."""
        with self._lock:
            if self._models is None:
                from worker.loaded import LoadedModels

                self._models = LoadedModels(
                    self.settings,
                    self._prepared,
                    sessions=lambda: self.sessions,
                    images=lambda: self.images,
                )
            return self._models

    @property
    def embedder(self) -> Embedder:
        """The model in use. Raises CheckpointError, StoreUnavailable, DatabaseUnavailable."""
        return self.models.in_use()

    @property
    def loaded(self) -> Embedder | None:
        """The model if this process has one; loads nothing."""
        return None if self._models is None else self._models.now

    def serve(self) -> None:
        """From now on jobs come from many threads at a time, so they share their stages.

        The model they share follows the registry.
        """
        self._serves = True

    @contextmanager
    def at_work(self) -> Iterator[Serving]:
        """One model and its stages, for one job from its beginning to its decision."""
        serving = self._enter()
        try:
            yield serving
        finally:
            self._leave(serving)

    @property
    def stages(self) -> Stages | None:
        """How jobs are worked on together, in a process that serves."""
        with self.at_work() as serving:
            return serving.stages

    def follow(self) -> None:
        """Let new jobs go to the model in use, if that is another one by now.

        Those at work end with the model that they began with.
        """
        with self._lock:
            left, embedder = self._serving, self.loaded
            if left is None or embedder is None or left.embedder is embedder:
                return
            self._serving = self._made(embedder)
            done = left.users == 0
        if done:
            left.close()

    def fault(self) -> str | None:
        """What keeps the stages from ever answering again; makes nothing and waits for nothing."""
        serving = self._serving
        return None if serving is None else serving.fault()

    def close(self) -> None:
        """Finish what waits in the stages, and let connections, decoders and model go.

        The next use makes them again.
        """
        if self._succession is not None:
            self._succession.stop()
        with self._lock:
            if self._serving is not None:
                self._serving.close()
            if self._sandbox is not None:
                self._sandbox.close()
            if self._engine is not None:
                self._engine.dispose()
            self._engine = self._sessions = self._images = None
            self._sandbox = self._models = self._serving = self._succession = None

    def _enter(self) -> Serving:
        with self._lock:
            if self._serving is None:
                self._serving = self._made(self.embedder)
                if self._serves:
                    self._succession = Succession(self)
            self._serving.users += 1
            return self._serving

    def _leave(self, serving: Serving) -> None:
        with self._lock:
            serving.users -= 1
            left = serving.users == 0 and serving is not self._serving
        if left:
            serving.close()

    def _made(self, embedder: Embedder) -> Serving:
        stages = None
        if self._serves:
            from model.engine import one_core_a_thread

            one_core_a_thread()
            stages = together(
                Ledger(self.sessions, ReferenceCache()),
                embedder,
                self.settings.operating_point,
                threads=self.settings.concurrency,
                batch=self.settings.batch_size,
            )
        return Serving(embedder=embedder, stages=stages)

    def _prepared(self, checkpoint: Checkpoint, source: str) -> Embedder:
        from model.inference import Embedder, choose_device
        from model.questioned import look
        from model.specimen import examine

        settings, sandbox = self.settings, self.sandbox
        embedder = Embedder(
            checkpoint,
            choose_device(settings.device),
            source=source,
            exact=settings.precision == "float32",
            lanes=settings.cores,
            decode=look if sandbox is None else sandbox.look,
            examine=examine if sandbox is None else sandbox.examine,
        )
        if self._serves:
            _ = embedder.engine  # chosen now, which takes seconds, and not by the first job
        return embedder


def make_images(settings: Settings) -> Images:
    """The image store that the settings describe."""
    secret = settings.s3_secret_key
    s3 = S3Config(
        endpoint=settings.s3_endpoint,
        ca=None if settings.s3_ca is None else str(settings.s3_ca),
        access_key=settings.s3_access_key,
        secret_key=None if secret is None else secret.get_secret_value(),
        region=settings.s3_region,
        path_style=settings.s3_path_style,
        connect_timeout=settings.s3_connect_timeout,
        read_timeout=settings.s3_read_timeout,
        retries=settings.s3_retries,
    )
    return Images(
        roots=settings.roots,
        buckets=settings.buckets,
        store=settings.store,
        s3=s3,
        max_bytes=settings.max_bytes,
    )


_runtimes: dict[Settings, Runtime] = {}
_runtimes_lock = threading.Lock()


def get_runtime(settings: Settings | None = None) -> Runtime:
    """The runtime of this process for these settings (the environment's when not given)."""
    settings = settings or load_settings()
    with _runtimes_lock:
        return _runtimes.setdefault(settings, Runtime(settings))


def close_runtimes() -> None:
    """Close every runtime of this process."""
    with _runtimes_lock:
        for runtime in _runtimes.values():
            runtime.close()
        _runtimes.clear()
