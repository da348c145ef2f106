"""The models that this process has loaded: the one that decides, those to come, and the last one.

The registry says which is which. Where it names none, or there is no registry yet, the model of
the settings decides. A model that cannot be had changes nothing: the one before goes on.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import make_url

from model.checkpoint import load_checkpoint, read_checkpoint
from model.errors import CheckpointNotFound, CheckpointNotPinned
from storage import models
from storage.database import Sessions
from storage.errors import DatabaseNotMigrated, ModelNotSealed
from storage.images import Images
from storage.models import Lineup
from worker import checkpoints
from worker.keys import chain_keys
from worker.settings import Settings
from worker.transactions import transaction

if TYPE_CHECKING:
    from model.checkpoint import Checkpoint
    from model.inference import Embedder

Prepare = Callable[["Checkpoint", str], "Embedder"]
"""Makes a checkpoint ready to embed; the text says where it came from."""


class LoadedModels:
    """Loads each model once; safe to share between threads.

    `latest` is what the registry said when it was asked last.
    """

    def __init__(
        self,
        settings: Settings,
        prepare: Prepare,
        sessions: Callable[[], Sessions],
        images: Callable[[], Images],
    ) -> None:
        self._settings, self._prepare = settings, prepare
        self._sessions, self._images = sessions, images
        self._lock = threading.Lock()
        self._loading: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._embedders: dict[str, Embedder] = {}
        self._own: str | None = None
        self._sealed: str | None = None
        self._in_use: Embedder | None = None
        self._before: str | None = None
        self.latest = Lineup()

    @property
    def now(self) -> Embedder | None:
        """The model in use, if one is loaded; asks and loads nothing."""
        return self._in_use

    def ready(self) -> list[str]:
        """The digests of all that are loaded."""
        with self._lock:
            return sorted(self._embedders)

    def in_use(self) -> Embedder:
        """The model that decides, as of the last look. Raises as `use` does."""
        return self._in_use or self.use(self.lineup())

    def use(self, lineup: Lineup) -> Embedder:
        """Load the active model of this lineup and use it from now on.

        Raises CheckpointError, ModelNotSealed, StoreUnavailable or DatabaseUnavailable, and changes
        nothing then.
        """
        if lineup.active is not None:
            self._check_sealed(lineup.active)
        found = self.get(lineup.active or self._of_settings())
        with self._lock:
            if found is not self._in_use:
                self._before = None if self._in_use is None else self._in_use.model_id
                self._in_use = found
            # The last one stays, so that going back to it takes no time.
            kept = {found.model_id, self._before, *lineup.embedding}
            self._embedders = {id: e for id, e in self._embedders.items() if id in kept}
        return found

    def lineup(self) -> Lineup:
        """What the registry says now; nothing where there is none yet. Raises DatabaseUnavailable.

        A file that does not exist is not made by looking into it.
        """
        url = make_url(self._settings.database_url)
        if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
            return Lineup()
        try:
            with transaction(self._sessions()) as session:
                self.latest = models.lineup(session)
                return self.latest
        except DatabaseNotMigrated:  # as whoever reads or writes a signer there will be told
            return Lineup()

    def get(self, model_id: str) -> Embedder:
        """A registered model, loaded now if need be. Raises UnknownModel and as `use` does."""
        with self._lock:
            loading = self._loading[model_id]
        with loading:
            found = self._embedders.get(model_id)
            if found is None:
                found = self._prepare(*self._checkpoint(model_id))
                with self._lock:
                    self._embedders[model_id] = found
            return found

    def check_file(self) -> None:
        """That the file of the model in use is there and whole; loads no network.

        Raises as `use` does.
        """
        self._checkpoint(self.lineup().active or self._of_settings())

    def _checkpoint(self, model_id: str) -> tuple[Checkpoint, str]:
        """The checkpoint and where it came from: the settings' file if it is that, or the store."""
        settings = self._settings
        if settings.checkpoint_sha256 not in (None, model_id):
            raise CheckpointNotPinned(
                f"Model {model_id[:12]} is not the one that SIGCTL_CHECKPOINT_SHA256 names."
            )
        with suppress(CheckpointNotFound):
            if self._of_settings() == model_id:
                return load_checkpoint(settings.checkpoint, sha256=model_id), str(
                    settings.checkpoint
                )
        with transaction(self._sessions()) as session:
            uri = models.get(session, model_id).uri
        return checkpoints.fetch(self._images(), model_id, uri), uri

    def _check_sealed(self, model_id: str) -> None:
        """That somebody with the record's key has made it the active one, if there is a key."""
        if self._settings.chain_key is None or model_id == self._sealed:
            return
        with transaction(self._sessions()) as session:
            self._sealed = models.sealed(session, chain_keys(self._settings))
        if self._sealed != model_id:
            raise ModelNotSealed(
                f"model {model_id[:12]} is active, but no entry of the record under its key says"
                f" so; if it should be, confirm it with `sigctl models activate {model_id[:12]}`"
            )

    def _of_settings(self) -> str:
        """The digest of the model that the settings name."""
        if self._own is None:
            settings = self._settings
            _, self._own = read_checkpoint(settings.checkpoint, sha256=settings.checkpoint_sha256)
        return self._own
