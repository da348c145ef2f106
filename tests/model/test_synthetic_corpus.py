"""A corpus of made-up signers is the same however it was drawn, and completed after a stop."""

import pytest

from model.dataset import scan_dataset
from model.errors import DatasetError
from model.synthetic import write_dataset
from model.synthetic_corpus import MARK, synthetic_corpus

SMALL = {"genuine": 2, "forgeries": 1}


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != MARK
    }


@pytest.fixture
def expected(tmp_path):
    write_dataset(tmp_path / "expected", signers=3, seed=7, **SMALL)
    return contents(tmp_path / "expected")


def test_two_processes_write_what_one_does(tmp_path, expected):
    seen = []
    synthetic_corpus(
        tmp_path / "a", signers=3, seed=7, processes=2, **SMALL,
        progress=lambda *at: seen.append(at),
    )  # fmt: skip
    assert contents(tmp_path / "a") == expected
    assert seen == [(3, 9), (6, 9), (9, 9)]
    assert len(scan_dataset(tmp_path / "a")) == 3


def test_a_stopped_run_is_completed_and_a_whole_one_left_alone(tmp_path, expected):
    def interrupt(done, total):
        raise KeyboardInterrupt

    folder = tmp_path / "a"
    with pytest.raises(KeyboardInterrupt):
        synthetic_corpus(folder, signers=3, seed=7, processes=1, **SMALL, progress=interrupt)
    assert not list(folder.rglob("*.part"))
    (folder / "full_forg" / "forgeries_1_1.png").unlink(missing_ok=True)
    seen = []
    for _ in range(2):
        synthetic_corpus(
            folder, signers=3, seed=7, processes=1, **SMALL,
            progress=lambda done, total: seen.append(done),
        )  # fmt: skip
    assert contents(folder) == expected
    assert seen == sorted(set(seen))
    assert seen[-1] == 9


@pytest.mark.parametrize("name", ["full_org", MARK])
def test_a_folder_of_other_signatures_is_left_alone(tmp_path, name):
    (tmp_path / name).write_text("Made-up signers, drawn from seed 8.\n")
    with pytest.raises(DatasetError, match=r"holds (other files|the signers of another seed)"):
        synthetic_corpus(tmp_path, signers=1, seed=7)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_negative_count_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="negative"):
        synthetic_corpus(tmp_path / "a", signers=-1, seed=7)
    assert not (tmp_path / "a").exists()
