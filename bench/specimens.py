"""How often the checks of enrolment refuse or doubt genuine signatures of real corpora.

    python -m bench.specimens FOLDER...

The folders have the CEDAR layout; only their genuine signatures are looked at.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from model.dataset import scan_dataset
from model.errors import ModelError
from model.preprocess import Preprocessing
from model.specimen import Weight, examine, remarks

HOW = Preprocessing(height=64, width=128)


def main() -> None:
    """Print a line for each folder."""
    for folder in sys.argv[1:]:
        print(line(Path(folder)))


def line(folder: Path) -> str:
    """Shares of refused and doubted signatures, and of each remark by its code."""
    paths = [path for signer in scan_dataset(folder) for path in signer.genuine]
    counts: Counter[str] = Counter()
    for path in paths:
        counts.update(remarked(path.read_bytes()))
    parts = (f"{name} {count / len(paths):.2%}" for name, count in sorted(counts.items()))
    return f"{folder.name}: {len(paths)} signatures; {', '.join(parts) or 'nothing to say'}"


def remarked(data: bytes) -> set[str]:
    """What counts for one image: each code with its weight, and the heavier weight alone."""
    try:
        found = remarks(examine(data, HOW).measures)
    except ModelError as error:
        return {"refusal", f"{error.code} refusal"}
    if not found:
        return set()
    weights = {remark.weight for remark in found}
    heavier = Weight.REFUSAL if Weight.REFUSAL in weights else Weight.WARNING
    return {str(heavier), *(f"{remark.code} {remark.weight}" for remark in found)}


if __name__ == "__main__":
    main()
