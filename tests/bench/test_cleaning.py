"""The bench counts the scans in which a line was drawn, and shows them."""

import cv2
import numpy as np

from bench import cleaning
from model.synthetic import write_dataset


def test_scans_with_lines_are_counted_and_shown(tmp_path, capsys):
    folder = tmp_path / "made"
    write_dataset(folder, signers=3, genuine=4, forgeries=2, seed=2)
    drawn = sorted((folder / "full_org").glob("*.png"))[:5]
    for path in drawn:
        page = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        cv2.line(page, (8, -5), (6, page.shape[0] + 5), 30, 3)
        cv2.imwrite(str(path), page)
    cleaning.main([str(folder), "--sheet", str(tmp_path / "sheet.png")])
    genuine, forged = capsys.readouterr().out.splitlines()
    assert genuine.startswith("made, genuine: 12 scans; 5 had lines")
    assert forged.startswith("made, forged: 6 scans; 0 had lines")
    shown = cv2.imread(str(tmp_path / "sheet.png"))
    assert shown.shape == (150, 1500, 3)
    assert np.count_nonzero((shown == cleaning.RED).all(2)) > 5 * 20
