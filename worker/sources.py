"""Where a document comes from: the folder that its scanner or branch fills, or what upstream says.

Folders for days and single batches are cut off, since each of them would be a source of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

NONE = "(none)"
_NUMBERED = re.compile(r"[\d._:T-]+|[0-9a-f-]{16,}")


def source_of(document: str, upstream: Mapping[str, Any] | None, field: str | None) -> str:
    """The value of a metadata field, or without one the document's folder.

    >>> source_of("s3://scans/branch-12/2026/11/24/7.png", None, None)
    's3://scans/branch-12'
    >>> source_of("file:///inbox/7.png", {"scanner": "north"}, "scanner")
    'north'
    """
    if field is None:
        return _folder(document.rpartition("/")[0])
    value = (upstream or {}).get(field)
    return NONE if value is None else str(value)


@lru_cache(maxsize=4096)
def _folder(folder: str) -> str:
    scheme, mark, rest = folder.partition("://")
    place, *parts = rest.split("/")
    kept = [place]
    for part in parts:
        if _NUMBERED.fullmatch(part):
            break
        kept.append(part)
    return scheme + mark + "/".join(kept)
