"""`predict` as a user runs it: the embedded pair of detectors on scenes saved as pictures."""

import contextlib
import io
import json
import shutil
import warnings
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from common import DIGITS, QUICKSTART
from PIL import Image
from pycocotools.coco import COCO
from sklearn.datasets import load_digits

import ebjr_det
from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.core.joint import JointModel
from ebjr_det.core.scores import deferral_scores
from ebjr_det.inference.pair import build_models
from ebjr_det.tasks.detection.data import build_named
from ebjr_det.tasks.detection.datasets.digit_scenes import describe, draw_scene
from ebjr_det.tasks.detection.model import build_model
from ebjr_det.tasks.detection.show import to_entries
from ebjr_det.tasks.settings import load_config

COUNT = 4


@pytest.fixture(scope="module")
def predict(command):
    return partial(command, "predict")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for index in range(COUNT):
        draw_scene("test", index).save(folder / f"scene {index}.png")
    (folder / "broken.jpg").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def energies(pictures: Path) -> np.ndarray:
    """The student's energies of the pictures, computed apart from the command."""
    section = load_config(QUICKSTART).student.built()
    student = build_model(build_named("digit_scenes", split="test"), **section)
    scenes = [Image.open(pictures / f"scene {index}.png").convert("RGB") for index in range(COUNT)]
    return deferral_scores(student([student.preprocess(s) for s in scenes]).logits, "energy_curvature")


def test_pictures_are_answered_annotated_and_written_as_coco_results(
    predict, pictures, energies, tmp_path, capsys
):
    threshold = float(np.sort(energies)[COUNT // 2 - 1 : COUNT // 2 + 1].mean())
    out = tmp_path / "out"
    assert predict(QUICKSTART, pictures, "--threshold", threshold, "--out", out, "--json") == 0
    said, complained = capsys.readouterr()
    summary = json.loads(said)
    assert (summary["images"], summary["unreadable"], summary["deferred"]) == (COUNT, 1, COUNT // 2)
    assert "broken.jpg" in complained
    entries = json.loads((out / "images.json").read_text())
    assert [Path(entry["file_name"]).name for entry in entries] == [f"scene {i}.png" for i in range(COUNT)]
    scores = np.array([entry["deferral_score"] for entry in entries])
    np.testing.assert_allclose(scores, energies, atol=1e-4)
    who = ["teacher" if score > threshold else "student" for score in scores]
    assert [entry["answered_by"] for entry in entries] == who
    for entry in entries:
        with Image.open(out / entry["drawn"]) as drawn:
            assert drawn.height > drawn.width  # a square scene under its strip
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": entries,
            "categories": [{"id": key, "name": name} for key, name in enumerate("0123456789", start=1)],
            "annotations": [],
        }
        truth.createIndex()
        found = truth.loadRes(str(out / "predictions.json"))
    assert {row["image_id"] for row in found.dataset["annotations"]} <= {entry["id"] for entry in entries}
    assert describe("test").category_ids == tuple(range(1, 11))


@pytest.mark.parametrize(("threshold", "deferred"), [("-inf", COUNT), ("inf", 0)])
def test_the_end_thresholds_send_all_or_none(predict, threshold, deferred, pictures, tmp_path, capsys):
    args = [
        QUICKSTART, f"{pictures}/scene*.png", f"--threshold={threshold}", "--out", tmp_path / "out",
        "--json",
    ]  # fmt: skip
    assert predict(*args) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["deferred"] == deferred
    assert summary["threshold"] is None


def test_a_run_folder_brings_its_threshold(command, predict, pictures, tmp_path, capsys):
    run = tmp_path / "run"
    quick = [f"--set={change}" for change in ("data.limit=12", "latency.measure=false", "run.bootstrap=5")]
    assert command("evaluate", QUICKSTART, *quick, "--out", run) == 0
    capsys.readouterr()
    assert predict(run, pictures / "scene 0.png", "--out", tmp_path / "out", "--json") == 0
    chosen = json.loads((run / "summary.json").read_text())["joint"]["threshold"]
    assert json.loads(capsys.readouterr().out)["threshold"] == chosen
    gallery = json.loads((run / "gallery.json").read_text())
    files = [picture["file"] for group in gallery["groups"] for picture in group["pictures"]]
    assert files
    assert all((run / file).is_file() for file in files)
    assert {"annotations.json.gz", "student.json.gz", "teacher.json.gz", "joint.json.gz"} <= {
        path.name for path in run.iterdir()
    }


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_threads_change_no_byte_of_what_is_written(predict, pictures, energies, tmp_path, capsys):
    threshold = float(np.sort(energies)[0]) + 1e-3  # all but one
    written = {}
    for name, changes in {
        "plain": [],
        "threads": ["run.workers=2"],
        "overlap": ["run.workers=2", "run.overlap=true"],
    }.items():
        settings = [f"--set={change}" for change in ["run.batch_size=3", *changes]]
        args = ["--threshold", threshold, "--out", tmp_path / name, "--json"]
        assert predict(QUICKSTART, pictures, *settings, *args) == 0
        said, complained = capsys.readouterr()
        summary = json.loads(said)
        assert (summary["images"], summary["unreadable"], summary["deferred"]) == (COUNT, 1, COUNT - 1)
        assert summary["seconds"] > 0
        assert summary["pictures_per_second"] == pytest.approx(COUNT / summary["seconds"])
        assert complained.count("Left out") == 1
        written[name] = files_of(tmp_path / name)
    assert len(written["plain"]) == 2 + COUNT
    assert written["plain"] == written["threads"] == written["overlap"]


def test_predictions_are_those_of_the_pair_called_batch_by_batch(pictures, energies, tmp_path):
    threshold = float(np.sort(energies)[COUNT // 2 - 1 : COUNT // 2 + 1].mean())
    out, config = tmp_path / "out", load_config(QUICKSTART, ["run.batch_size=2", "run.workers=1"])
    ebjr_det.predict(config, [str(pictures)], out, threshold=threshold)
    named = build_named("digit_scenes", split="test")
    student, teacher = build_models(config, named, "cpu")
    joint = JointModel(student, teacher, lambda o: deferral_scores(o.logits, "energy_curvature"), threshold)
    expected, places = [], [*enumerate(sorted(pictures.iterdir()), start=1)]
    for at in range(0, len(places), 2):
        lot = [
            (n, Image.open(path).convert("RGB")) for n, path in places[at : at + 2] if path.suffix == ".png"
        ]
        for (number, _), answer in zip(lot, joint([picture for _, picture in lot]).predictions, strict=True):
            expected += to_entries(answer, number, named)
    assert len(expected) > COUNT
    assert json.loads((out / "predictions.json").read_text()) == expected


def test_a_picture_that_cannot_be_written_leaves_no_json_behind(pictures, tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise InvalidInput("Expected to write, got: disk full.")

    monkeypatch.setattr(import_module("ebjr_det.api.predict"), "with_strip", fail)
    for workers in (0, 2):
        config = load_config(QUICKSTART, [f"run.workers={workers}"])
        with pytest.raises(InvalidInput, match="disk full"):
            ebjr_det.predict(config, [str(pictures)], tmp_path / "out", threshold=0.0)
        assert files_of(tmp_path / "out") == {}


def test_earlier_predictions_are_replaced_as_a_whole(pictures, tmp_path):
    out, config = tmp_path / "out", load_config(QUICKSTART)
    ebjr_det.predict(config, [str(pictures)], out, threshold=0.0)
    assert len(list((out / "pictures").iterdir())) == COUNT
    before = files_of(out)
    with pytest.raises(InvalidInput):
        ebjr_det.predict(config, [str(pictures / "broken.jpg")], out, threshold=0.0)
    assert files_of(out) == before
    ebjr_det.predict(config, [str(pictures / "scene 2.png")], out, threshold=0.0)
    assert [path.name for path in (out / "pictures").iterdir()] == ["000001_scene 2.jpg"]
    assert [entry["id"] for entry in json.loads((out / "images.json").read_text())] == [1]
    assert {path.name for path in out.iterdir()} == {"predictions.json", "images.json", "pictures"}


@pytest.mark.parametrize("name", ["notes.txt", "pictures/holiday.jpg", "predictions.json"])
def test_a_folder_with_files_of_the_users_own_is_refused_before_a_model_is_built(name, pictures, tmp_path):
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text("mine")
    config = load_config(QUICKSTART, ["student.checkpoint=none.pth"])
    with pytest.raises(ConfigError, match="got other files in"):
        ebjr_det.predict(config, [str(pictures)], out, threshold=0.0)
    assert files_of(out) == {name: b"mine"}


OWN = {"id": 1, "file_name": "left.jpg", "width": 640, "height": 480}
OWN_IMAGES = {
    "none": None,
    "empty": "",
    "list": "[]\n",
    "own": json.dumps([OWN, OWN]),
    "coco": json.dumps({"images": [OWN], "annotations": []}, indent=2),
    "binary": b"\x80\x04".decode("latin-1"),
}


@pytest.mark.parametrize("kind", OWN_IMAGES)
def test_images_of_the_users_own_are_no_earlier_predictions(kind, pictures, tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "000001_left.jpg").write_text("mine")
    if OWN_IMAGES[kind] is not None:
        (tmp_path / "images.json").write_text(OWN_IMAGES[kind], encoding="latin-1")
    before = files_of(tmp_path)
    with pytest.raises(ConfigError, match="an earlier predict, got other files in"):
        ebjr_det.predict(load_config(QUICKSTART), [str(pictures)], tmp_path, threshold=0.0)
    assert files_of(tmp_path) == before


def test_a_picture_beside_the_annotated_ones_is_not_taken_for_one(pictures, tmp_path):
    config, asked = load_config(QUICKSTART), [str(pictures / "scene 2.png")]
    ebjr_det.predict(config, asked, tmp_path, threshold=0.0)
    (tmp_path / "pictures" / "000002_left.jpg").write_text("mine")
    before = files_of(tmp_path)
    with pytest.raises(ConfigError, match="such as `pictures`"):
        ebjr_det.predict(config, asked, tmp_path, threshold=0.0)
    assert files_of(tmp_path) == before


def test_predictions_never_replace_the_pictures_that_they_are_of(pictures, tmp_path):
    config = load_config(QUICKSTART)
    ebjr_det.predict(config, [str(pictures / "scene 2.png")], tmp_path / "data", threshold=0.0)
    before = files_of(tmp_path / "data")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    for source in ("data/pictures", "data", "link/pictures/*.jpg"):
        with pytest.raises(ConfigError, match=r"Expected pictures outside of --out, got .*Choose another"):
            ebjr_det.predict(config, [str(tmp_path / source)], tmp_path / "data", threshold=0.0)
        assert files_of(tmp_path / "data") == before


def test_predictions_whose_replacement_broke_off_are_replaced(pictures, tmp_path, monkeypatch):
    """However many of the files had gone and come."""
    config, asked = load_config(DIGITS), [str(pictures / "scene 2.png")]
    plain = tmp_path / "plain"
    ebjr_det.predict(config, asked, plain, threshold=0.0)
    for last in range(8):
        out, moves = shutil.copytree(plain, tmp_path / str(last)), iter(range(last))
        real = Path.replace

        def replace(self, target, out=out, moves=moves, real=real):
            if Path(target).parent == out and next(moves, None) is None:
                raise KeyboardInterrupt
            return real(self, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", replace)
            with contextlib.suppress(KeyboardInterrupt):
                ebjr_det.predict(config, asked, out, threshold=0.0)
        ebjr_det.predict(config, asked, out, threshold=0.0)
        assert files_of(out).keys() == files_of(plain).keys()


def test_no_picture_that_can_be_decoded_is_an_error(pictures, tmp_path):
    with pytest.raises(InvalidInput, match="can be decoded, got none among 1"):
        ebjr_det.predict(
            load_config(QUICKSTART), [str(pictures / "broken.jpg")], tmp_path / "out", threshold=0.0
        )
    assert files_of(tmp_path / "out") == {}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_suspiciously_large_picture_is_left_out_by_every_thread(
    workers, pictures, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(
        Image, "MAX_IMAGE_PIXELS", 100
    )  # more than this is suspicious, twice as much an error
    for index in range(30):
        Image.new("RGB", (15, 10)).save(tmp_path / f"{index}.png")
    config = load_config(QUICKSTART, [f"run.workers={workers}"])
    before = list(warnings.filters)
    with pytest.raises(InvalidInput, match="got none among 30"):
        ebjr_det.predict(config, [f"{tmp_path}/*.png"], tmp_path / "out", threshold=0.0)
    assert capsys.readouterr().err.count("exceeds limit") == 30
    assert warnings.filters == before


def test_random_weights_follow_the_seed():
    def student(seed: int) -> dict:
        small = "{arch: effdet/efficientdet_d0, image_size: 128, random_weights: true}"
        changes = [f"student={small}", f"teacher={small}", f"run.seed={seed}"]
        network = build_models(load_config(QUICKSTART, changes), build_named("digit_scenes"), "cpu")[
            0
        ].network
        return network.state_dict()

    first, again, other = student(1), student(1), student(2)
    assert all((first[key] == again[key]).all() for key in first)
    assert any((first[key] != other[key]).any() for key in first)


def test_pictures_with_the_longest_names_are_drawn(tmp_path):
    """A name has 255 bytes at most; the drawn one has a number before it."""
    folder = tmp_path / "long"
    folder.mkdir()
    for stem in ("x" * 251, "\u732b" * 83, "\U0001f431" * 62):
        Image.new("RGB", (8, 8)).save(folder / f"{stem}.png")
    config = load_config(DIGITS)
    assert ebjr_det.predict(config, [str(folder)], tmp_path / "out", threshold=0.0).images == 3
    entries = json.loads((tmp_path / "out" / "images.json").read_text())
    assert all((tmp_path / "out" / entry["drawn"]).is_file() for entry in entries)


def test_pictures_of_another_size_are_resized_as_set_or_one_line(tmp_path):
    """A network that pools at its end would answer any size, and wrongly."""
    folder, whole = tmp_path / "pictures", load_digits()
    folder.mkdir()
    for index, values in enumerate(whole.images[:8]):
        picture = Image.fromarray((values * 255 / 16).astype(np.uint8))
        picture.resize((32, 32), Image.Resampling.NEAREST).save(folder / f"{index}.png")
    ebjr_det.predict(load_config(DIGITS), [str(folder)], tmp_path / "out", threshold=-1.0)
    answers = json.loads((tmp_path / "out" / "predictions.json").read_text())
    right = np.equal([answer["category_id"] for answer in answers], whole.target[:8])
    assert right.sum() >= 7, "there and back blurs one of them"
    plain = [f"{side}.preprocessing={{mean: [0.305], std: [0.376]}}" for side in ("student", "teacher")]
    with pytest.raises(InvalidInput, match=r"pictures that are 3 x 8 x 8 .* got 3 x 32 x 32\. Resize them"):
        ebjr_det.predict(load_config(DIGITS, plain), [str(folder)], tmp_path / "none", threshold=0.0)
    assert not (tmp_path / "none").exists()


def test_the_help_tells_what_becomes_of_a_folder_that_is_not_empty(predict, capsys):
    assert predict("--help") == 0
    told = " ".join(capsys.readouterr().out.replace("\u2502", " ").split())
    assert "Earlier predictions there are replaced" in told
    assert "one that holds other files is refused" in told
