"""The bench of the ink names its documents and their cost."""

import re

from bench.ink import line
from model.synthetic import write_dataset


def test_a_folder_is_summed_up_in_a_line_and_what_is_unreadable_left_out(tmp_path):
    write_dataset(tmp_path / "made", signers=1, genuine=2, forgeries=1, seed=4)
    folder = tmp_path / "made" / "full_org"
    (folder / "broken.png").write_bytes(b"no image")
    told = r"full_org: 2 documents; [\d.]+ of [\d.]+ ms; [\d.]+ % in the median, [\d.]+ % at most"
    assert re.fullmatch(told, line(folder))
    assert line(folder / "broken.png") == "broken.png: no document with ink"
