"""The bench of retraining parts writers as it says, and spoils what it is to spoil."""

from collections import Counter
from pathlib import Path

from bench.retrain import CANNOT, REFERENCES, _arrival, _linked, _parted, _shuffled, main
from model.dataset import Signer, scan_dataset
from model.synthetic import write_dataset


def people(count=45):
    return [
        Signer(
            name=f"cedar/{number}",
            genuine=tuple(Path(f"g{number}_{n}.png") for n in range(24)),
            forged=tuple(Path(f"f{number}_{n}.png") for n in range(24)),
        )
        for number in range(count)
    ]


def test_no_writer_is_known_and_arrives_or_is_among_the_last():
    parts = _parted(people(), 7)
    assert [len(part) for part in parts] == [20, 10, 15]
    assert len({signer.name for part in parts for signer in part}) == 45


def test_shuffled_is_the_same_images_under_other_names_and_labels():
    true = _arrival(_parted(people(), 7)[1])
    spoilt = _shuffled(true, 7)
    assert spoilt.references.keys() == true.references.keys()
    pools = [sorted(p for paths in a.references.values() for p in paths) for a in (true, spoilt)]
    assert pools[0] == pools[1]
    assert all(len(paths) == REFERENCES for paths in spoilt.references.values())
    own = [len({p.name.split("_")[0] for p in paths}) for paths in spoilt.references.values()]
    assert min(own) > 2
    counts = [Counter(finding for *_, finding in a.documents) for a in (true, spoilt)]
    assert counts[0] == counts[1] == {"forged": 240, "genuine": 140}
    wrong = sum(a[2] != b[2] for a, b in zip(true.documents, spoilt.documents, strict=True))
    assert wrong > 100


def test_a_part_of_a_corpus_is_a_corpus_of_the_same_files(tmp_path):
    corpus = tmp_path / "whole"
    write_dataset(corpus, signers=4, genuine=3, forgeries=2, seed=1)
    some = scan_dataset(corpus)[:3]
    linked = scan_dataset(_linked(tmp_path / "cedar", some))
    assert [signer.name for signer in linked] == ["cedar/1", "cedar/2", "cedar/3"]
    for before, after in zip(some, linked, strict=True):
        assert [p.resolve() for p in after.files] == list(before.files)


def test_without_data_it_says_so(capsys):
    assert main(["--data", "/nowhere"]) == CANNOT
    assert "must name a folder with CEDAR" in capsys.readouterr().err
