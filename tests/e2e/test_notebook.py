"""The notebook of EBJR's published pairs, run from beginning to end on some of the images."""

import re

import notebook
import pytest


@pytest.mark.shared
@pytest.mark.slow
def test_the_notebook_runs_and_prints_what_ebjr_prints(cifar_root, published_weights):
    cells = [cell for cell in notebook.execute(cifar_root, 200).cells if cell.cell_type == "code"]
    printed = ["".join(output.get("text", "") for output in cell.outputs) for cell in cells]
    for text, flops in ((printed[1], "2.92380404"), (printed[2], "2.14001928")):
        assert "#Samples: 200" in text
        assert f"FLOPs (10^8): {flops}" in text
        assert float(re.search(r"Accuracy \(%\): ([\d.]+)", text)[1]) > 70
    shown = [output.data for cell in cells for output in cell.outputs if "data" in output]
    assert sum("text/html" in data for data in shown) == 3, "two evaluations and a calibration"
    assert sum("image/png" in data for data in shown) == 2
    shares = [float(share) for share in re.findall(r"([\d.]+) % to the teacher", printed[-1])]
    assert shares == sorted(shares)
    assert shares[0] < shares[-1]


def test_what_is_kept_of_it_are_the_published_numbers():
    kept = notebook.NOTEBOOK.read_text(encoding="utf-8")
    for number in ("72.03", "94.77", "1.3653358299879998", "56.73", "74.79", "1.568805062456"):
        assert number in kept
    assert "Traceback" not in kept
