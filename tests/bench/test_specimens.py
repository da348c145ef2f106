"""The bench of the checks counts what they say."""

from bench.specimens import line
from model.synthetic import write_dataset


def test_a_corpus_is_summed_up_in_a_line(tmp_path):
    write_dataset(tmp_path / "made", signers=2, genuine=3, forgeries=1, seed=4)
    assert line(tmp_path / "made") == "made: 6 signatures; nothing to say"
    (tmp_path / "made" / "full_org" / "original_1_1.png").write_bytes(b"no image")
    assert "refusal 16.67%, unreadable_image refusal 16.67%" in line(tmp_path / "made")
