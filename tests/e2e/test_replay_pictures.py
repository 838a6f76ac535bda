"""`replay` with names of models and a folder of pictures: tables, figures and page use them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def detectors(make_detectors, tmp_path_factory):
    """Result files of 20 pictures, of which a folder holds the first twelve."""
    folder = tmp_path_factory.mktemp("shown")
    files, pictures = make_detectors(folder, range(1, 21), 0), folder / "pictures"
    pictures.mkdir()
    for number in range(1, 13):
        Image.new("RGB", (320, 320), (9 * number, 90, 90)).save(pictures / f"{number}.jpg")
    return [*files.options, "--bootstrap", 5, "--score", "published"], pictures


def gallery_of(run: Path) -> list[dict]:
    groups = json.loads((run / "gallery.json").read_text())["groups"]
    return [picture for group in groups for picture in group["pictures"]]


def test_names_and_pictures_of_replayed_detectors_are_on_the_page(detectors, command, tmp_path, capsys):
    options, pictures = detectors
    out, names = tmp_path / "run", ["--student-name", "Nano", "--teacher-name", "Extra Large"]
    capsys.readouterr()
    assert command("replay", "detection", *options, *names, "--images", pictures, "--out", out) == 0
    screen, notes = capsys.readouterr()
    assert "teacher Extra Large" in screen
    assert "8 of 20 pictures are not in" in notes
    assert {int(entry["image_id"]) for entry in gallery_of(out)} <= set(range(1, 13))
    assert all((out / entry["file"]).is_file() for entry in gallery_of(out))
    page = (out / "report.html").read_text()
    assert page.count("data:image/jpeg") == len(gallery_of(out)) > 0
    assert "Student: Nano. Teacher: Extra Large." in page
    assert "Extra Large" in (out / "AP_by_deferral_rate.svg").read_text()
    before = (out / "report.html").read_bytes()
    assert command("report", out) == 0
    assert (out / "report.html").read_bytes() == before
    assert command("replay", "detection", *options, "--out", out) == 0
    assert not (out / "gallery.json").exists()
    assert "data:image" not in (out / "report.html").read_text()


def test_without_names_models_are_called_as_their_files(detectors, answer, tmp_path):
    told = answer("replay", "detection", *detectors[0], "--out", tmp_path / "run")
    assert (told["student"]["name"], told["teacher"]["name"]) == ("student", "teacher")
    assert told["title"] == "Replay: student + teacher"


def test_files_of_one_pair_on_other_pictures_calibrate_together(make_detectors, command, tmp_path):
    for name, ids in (("first", range(1, 31)), ("second", range(31, 61))):
        files = make_detectors(tmp_path / name, ids, 0)
        student = files.student.rename(files.student.with_name(f"student_{name}.json"))
        options = ["--annotations", files.annotations, "--student", student, "--teacher", files.teacher]
        run = ["--score", "published", "--bootstrap", 5, "--out", tmp_path / f"run_{name}"]
        assert command("replay", "detection", *options, *run) == 0
    both = [tmp_path / "run_first", "--report-on", tmp_path / "run_second"]
    assert command("calibrate", *both, "--deferral-rate", 0.3) == 0


def test_pictures_of_replayed_classifiers_are_found_by_their_ids(classifiers, command, tmp_path):
    options = classifiers(range(40), 0)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(40):
        Image.new("RGB", (24, 24), (6 * number, 40, 40)).save(pictures / f"i{number}.png")
    more = ["--bootstrap", 5, "--score", "published", "--images", pictures, "--out", tmp_path / "run"]
    assert command("replay", "classification", *options, *more) == 0
    student = np.load(options[1])["logits"].argmax(axis=1)
    shown = gallery_of(tmp_path / "run")
    assert shown
    for entry in shown:
        assert f"the student says {student[int(entry['image_id'][1:])]}," in entry["caption"]
        assert Image.open(tmp_path / "run" / entry["file"]).size == (entry["width"], entry["height"])


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--images", "nowhere"), "Expected a folder of pictures as `images`, got none at `nowhere`."),
        (("--images", "."), "got none of 20; the first is `1.jpg`."),
        (("--student-name", " "), "Expected the name of a model as one line of text, got ' '."),
        (("--teacher-name", "a\nb"), "Expected the name of a model as one line of text, got 'a\\nb'."),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(
    options, complaint, detectors, refused, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert complaint in refused("replay", "detection", *detectors[0], *options, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_pictures_of_other_classifiers_are_refused(classifiers, refused, tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "else.png")
    files = classifiers(range(10), 0)
    line = refused("replay", "classification", *files, "--images", tmp_path, "--out", tmp_path / "run")
    assert "whose paths are the `image_ids` of the logits, such as `i0`, got none of 10." in line
