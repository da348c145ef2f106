"""The grey of the ink is called what it is, where forgeries went through another scanner."""

import re
import shutil

import cv2
import numpy as np
import pytest

from bench import grey
from model.dataset import scan_dataset
from model.synthetic import write_dataset
from tests.bench.asking import asked_of


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans") / "made"
    write_dataset(folder, signers=10, genuine=3, forgeries=3, seed=1)
    return folder


@pytest.fixture(scope="module")
def curved(scans, tmp_path_factory):
    """The same, where the forgeries went through a tone curve."""
    folder = tmp_path_factory.mktemp("curved") / "made"
    shutil.copytree(scans, folder)
    curve = (np.arange(256) // 2 * 2).astype(np.uint8)
    curve[255] = 255
    for path in (folder / "full_forg").iterdir():
        cv2.imwrite(str(path), curve[cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)])
    return folder


def table_of(folder, tmp_path, capsys):
    asked = ["--data", str(folder), "--cache", str(tmp_path / "cache"), "--device", "cpu"]
    assert grey.main(asked) == 0
    return capsys.readouterr().out


def test_a_tone_curve_of_the_forgeries_is_found_without_any_reference(
    scans, curved, tmp_path, capsys
):
    plain = table_of(scans, tmp_path, capsys)
    assert "LEAKY" in plain
    assert "EER 0.00 %" not in plain
    assert "the hand" not in plain  # the shipped checkpoint knows none of these writers
    found = table_of(curved, tmp_path, capsys)
    assert "EER 0.00 %" in found
    assert "100.0 % of them have some" in found


def test_the_hand_beside_the_grey_takes_no_forgery_for_genuine(curved, capsys):
    testing = [signer.name for signer in scan_dataset(curved)]
    assert grey.main(asked_of(curved, test_writers=testing)) == 0
    table = capsys.readouterr().out
    skilled = dict(re.findall(r"(grey|hand|both).* 10 +(\S+) /", table))
    assert skilled["grey"] == skilled["both"] == "0.0"
    assert float(skilled["hand"]) > 0


@pytest.mark.parametrize(("signers", "spoilt"), [(3, 0), (10, 1)])
def test_few_writers_are_refused_in_a_sentence(tmp_path, capsys, signers, spoilt):
    write_dataset(tmp_path / "made", signers=signers, genuine=2, forgeries=2, seed=1)
    for path in sorted((tmp_path / "made" / "full_org").iterdir())[:spoilt]:
        path.write_bytes(b"no image")
    asked = ["--data", str(tmp_path / "made"), "--cache", str(tmp_path / "cache")]
    assert grey.main(asked) == grey.CANNOT
    assert "ten writers" in capsys.readouterr().err
