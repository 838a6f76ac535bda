"""The counters of energy that a machine keeps: RAPL as Linux shows it, in files."""

import pytest

from ebjr_det.io.joules import joule_counter


def zone(folder, name, energy, largest=999_999):
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in {"name": name, "energy_uj": energy, "max_energy_range_uj": largest}.items():
        (folder / file).write_text(f"{content}\n")


def test_packages_are_added_and_a_counter_that_starts_anew_is_followed(tmp_path):
    zone(tmp_path / "intel-rapl:0", "package-0", 100_000)
    zone(tmp_path / "intel-rapl:1", "package-1", 900_000)
    zone(tmp_path / "intel-rapl:0:0", "core", 5)  # part of its package
    zone(tmp_path / "intel-rapl:2", "psys", 7)  # the whole board, packages included
    counter = joule_counter("cpu", tmp_path)
    assert counter() == 0
    zone(tmp_path / "intel-rapl:0", "package-0", 350_000)
    zone(tmp_path / "intel-rapl:1", "package-1", 150_000)
    zone(tmp_path / "intel-rapl:2", "psys", 99)
    assert counter() == pytest.approx(0.25 + 0.25)
    zone(tmp_path / "intel-rapl:0", "package-0", 450_000)
    assert counter() == pytest.approx(0.6)


@pytest.mark.parametrize("fault", ["none", "no number", "no range"])
def test_where_nothing_tells_there_is_no_counter(fault, tmp_path):
    if fault != "none":
        zone(tmp_path / "intel-rapl:0", "package-0", "x" if fault == "no number" else 1)
        if fault == "no range":
            (tmp_path / "intel-rapl:0" / "max_energy_range_uj").unlink()
    assert joule_counter("cpu", tmp_path) is None
