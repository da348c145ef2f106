"""The keys of the record, as the settings give them."""

from __future__ import annotations

from storage.seal import PUBLIC, Key, Keys
from worker.settings import Settings


def chain_keys(settings: Settings) -> Keys:
    """The key that the record is sealed with, and those that it was sealed with before."""
    key, old = settings.chain_key, settings.chain_old_keys
    before = [] if old is None else old.get_secret_value().split(",")
    return Keys(
        current=PUBLIC if key is None else Key.of(key.get_secret_value()),
        old=tuple(Key.of(words.strip()) for words in before if words.strip()),
    )
