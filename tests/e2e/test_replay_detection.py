"""`ebjr-det replay detection` as a user runs it: any two detectors' result files in, every number out."""

import contextlib
import csv
import gzip
import io
import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ebjr_det.core.scores import SCORES
from ebjr_det.tasks.detection.routing.box_scores import BOX_SCORES

STATS = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]
OF_ONE_LOGIT = {name for name, score in SCORES.items() if not score.all_classes}
WITH_COUNTS = {name for name, score in BOX_SCORES.items() if not score.candidates}
RATES = [0.298, 0.0, 1.0]


def replay(out: Path, *options, **files: Path) -> list[object]:
    """The arguments of a replay by the energy."""
    given = [part for name, path in files.items() for part in (f"--{name}", path)]
    fixed = ["--score", "free_energy", "--out", out, "--bootstrap", 5]
    return ["replay", "detection", *given, *fixed, *options]


# --- Real detections ---


@pytest.fixture(scope="module")
def real(shared_data):
    """Ground truth, student's and teacher's detections of 204 pictures."""
    folder = shared_data / "coco"
    found = [folder / "detections" / f"{name}_640_204.json.gz" for name in ("yolov5n", "yolo11n")]
    return folder / "annotations" / "instances_val2017_204.json", *found


@pytest.fixture(scope="module")
def replayed(real, tmp_path_factory, command):
    """The JSON object of a replay and the folder it left."""
    out = tmp_path_factory.mktemp("runs") / "pair"
    printed = io.StringIO()
    files = dict(zip(("annotations", "student", "teacher"), real, strict=True))
    with contextlib.redirect_stdout(printed):
        assert command(*replay(out, "--rates", ",".join(map(str, RATES)), "--json", **files)) == 0
    return json.loads(printed.getvalue()), out


@pytest.fixture(scope="module")
def peer(real):
    """A function: a set of image ids that are the teacher's -> pycocotools' numbers, from scratch."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(real[0])
    student, teacher = (json.loads(gzip.decompress(path.read_bytes())) for path in real[1:])

    def stats(teachers):
        mixed = [entry for entry in student if entry["image_id"] not in teachers]
        mixed += [entry for entry in teacher if entry["image_id"] in teachers]
        with contextlib.redirect_stdout(io.StringIO()):
            judge = COCOeval(truth, truth.loadRes(mixed), "bbox")
            judge.evaluate()
            judge.accumulate()
            judge.summarize()
        return judge.stats

    return stats


def routes(out: Path):
    """The columns of `routes.csv`: image ids, scores by name, which were deferred."""
    with (out / "routes.csv").open() as opened:
        rows = list(csv.DictReader(opened))
    scores = {name: np.array([float(row[name]) for row in rows]) for name in OF_ONE_LOGIT}
    return [int(row["image_id"]) for row in rows], scores, np.array([row["deferred"] == "1" for row in rows])


@pytest.mark.shared
def test_student_teacher_and_every_point_have_pycocotools_numbers(replayed, peer):
    summary, out = replayed
    ids, scores, _ = routes(out)
    assert summary["quality_name"] == "AP"
    assert [point["deferral_rate"] for point in summary["points"]] == pytest.approx(RATES, abs=1 / 204)
    known = {}
    for point in summary["points"]:
        end = np.inf if point["deferral_rate"] == 0 else -np.inf
        threshold = end if point["threshold"] is None else point["threshold"]
        teachers = set(np.array(ids)[scores["free_energy"] > threshold].tolist())
        assert len(teachers) == point["deferral_rate"] * 204
        known[point["deferral_rate"]] = peer(teachers)
        np.testing.assert_allclose(point["stats"], known[point["deferral_rate"]], rtol=0, atol=1e-12)
        assert point["quality"] == pytest.approx(point["stats"][0], abs=1e-12)
    for side, rate in (("student", 0.0), ("teacher", 1.0), ("joint", summary["joint"]["deferral_rate"])):
        np.testing.assert_allclose(summary[side]["stats"], known[rate], rtol=0, atol=1e-12)
        assert list(summary[side]["metrics"]) == STATS
        assert list(summary[side]["metrics"].values()) == summary[side]["stats"]
        assert summary[side]["quality"] == summary[side]["metrics"]["AP"]


@pytest.mark.shared
def test_routes_have_every_image_once_with_every_score_and_the_decision(replayed, real):
    summary, out = replayed
    ids, scores, deferred = routes(out)
    truth = json.loads(real[0].read_text())
    assert ids == sorted(image["id"] for image in truth["images"])
    assert (deferred == (scores["free_energy"] > summary["joint"]["threshold"])).all()
    assert deferred.mean() == summary["joint"]["deferral_rate"]
    best = {image: [] for image in ids}
    for entry in json.loads(gzip.decompress(real[1].read_bytes())):
        best[entry["image_id"]].append(entry["score"])
    top = [np.sort(best[image])[::-1][:10] for image in ids]
    expected = [-np.log(found / (1 - found)).mean() for found in top]
    np.testing.assert_allclose(scores["free_energy"], expected, rtol=1e-9)


@pytest.mark.shared
def test_the_folder_holds_the_whole_report_and_every_point(replayed):
    summary, out = replayed
    written = {path.name for path in out.iterdir()}
    files = {"config.yaml", "curve.json", "environment.json", "routes.csv", "run.npz", "summary.json"}
    assert files | {"table.md", "AP_by_deferral_rate.png"} <= written
    assert not [name for name in written if name.startswith(".")]
    assert json.loads((out / "summary.json").read_text()) == summary
    curves = json.loads((out / "curve.json").read_text())["curves"]
    assert set(curves) == OF_ONE_LOGIT | WITH_COUNTS == set(summary["scores"])  # COCO's counts are known
    assert len(curves["free_energy"]["quality"]) == 205
    ends = [curves["free_energy"]["quality"][end] for end in (0, -1)]
    assert ends == pytest.approx([summary[side]["quality"] for side in ("student", "teacher")], abs=1e-12)
    for name, (low, high) in summary["score_intervals"].items():
        assert low <= high, name


# --- Pictures without boxes, made up ---

BOX = [10, 10, 50, 60]
TRUTH = {
    "images": [{"id": n, "file_name": f"{n}.jpg", "width": 99, "height": 99} for n in (1, 2, 3, 4)],
    "annotations": [
        {"id": n, "image_id": n, "category_id": 1, "bbox": BOX, "area": 3000, "iscrowd": 0}
        for n in (1, 2, 3, 4)
    ],
    "categories": [{"id": 1, "name": "cell"}],
}
TEACHER = [{"image_id": n, "category_id": 1, "bbox": BOX, "score": 0.9} for n in (1, 2, 3, 4)]
STUDENT = [entry | {"score": 0.1 * entry["image_id"]} for entry in TEACHER if entry["image_id"] != 3]


@pytest.fixture
def files(tmp_path):
    """Paths of a good ground truth and two good result files."""
    paths = {}
    for name, content in (("annotations", TRUTH), ("student", STUDENT), ("teacher", TEACHER)):
        paths[name] = tmp_path / f"{name}.json"
        paths[name].write_text(json.dumps(content))
    return paths


def test_a_picture_in_which_the_student_finds_nothing_goes_to_the_teacher_first(files, tmp_path, answer):
    out = tmp_path / "out"
    summary = answer(*replay(out, "--rates", "0.25,0", **files))
    ids, scores, deferred = routes(out)
    assert (ids, deferred.tolist()) == ([1, 2, 3, 4], [False, False, True, False])
    assert scores["free_energy"][2] == 20.0
    assert scores["free_energy"][2] > scores["free_energy"].mean()
    assert summary["student"]["quality"] == pytest.approx(76 / 101)  # 3 of 4 objects, no false positive
    assert summary["teacher"]["quality"] == summary["joint"]["quality"] == pytest.approx(1)
    assert summary["joint"]["gap_recovered"] == pytest.approx(1)
    assert summary["student"]["metrics"]["APs"] == -1  # nothing small is there


def test_a_second_replay_replaces_the_first(files, tmp_path, command):
    out = tmp_path / "out"
    assert command(*replay(out, **files)) == 0
    first = (out / "routes.csv").read_text()
    assert command(*replay(out, "--rates", "0.5", **files)) == 0
    second = (out / "routes.csv").read_text()
    columns = [[line.split(",")[:2] for line in text.splitlines()] for text in (first, second)]
    assert columns[0] == columns[1]
    assert json.loads((out / "summary.json").read_text())["joint"]["deferral_rate"] == 0.5


def test_a_threshold_decides_as_given(files, tmp_path, answer):
    out = tmp_path / "out"
    told = answer(*replay(out, "--threshold", "2", **files))
    energies = [-np.log(score / (1 - score)) for score in (0.1, 0.2)] + [20, -np.log(0.4 / 0.6)]
    assert routes(out)[2].tolist() == [energy > 2 for energy in energies] == [True, False, True, False]
    assert told["joint"]["threshold"] == 2


# --- A user's mistake ---


def spoilt(content, **change):
    """The list with its first entry changed; `...` removes the key."""
    first = {key: value for key, value in {**content[0], **change}.items() if value is not ...}
    return [first, *content[1:]]


def objects(**change):
    return TRUTH | {"annotations": spoilt(TRUTH["annotations"], **change)}


def pictures(**change):
    return TRUTH | {"images": spoilt(TRUTH["images"], **change)}


MISTAKES = {
    "an object of negative size": ("annotations", objects(bbox=[0, 0, -1, 5]), "`bbox`"),
    "an object of NaN": ("annotations", objects(bbox=[0, float("nan"), 1, 5]), "nan"),
    "two pictures of one id": ("annotations", pictures(id=2), "distinct image ids"),
    "no pictures": ("annotations", TRUTH | {"images": []}, "at least one image"),
    "no classes": ("annotations", TRUTH | {"categories": []}, "at least one image and one category"),
    "no objects": ("annotations", TRUTH | {"annotations": []}, "an annotated object"),
    "results as ground truth": ("annotations", STUDENT, "an object with `images`"),
    "ground truth as results": ("student", TRUTH, "a list of detections"),
    "other pictures": ("teacher", [e | {"image_id": e["image_id"] + 50} for e in TEACHER], "4 of 4 entries"),
    "one other picture": ("teacher", spoilt(TEACHER, image_id=50), "1 of 4 entries: 50 at entry 0"),
    "nothing found": ("student", [], "Expected detections"),
    "no score": ("student", spoilt(STUDENT, score=...), "`score`"),
    "a NaN score": ("student", spoilt(STUDENT, score=float("nan")), "nan at entry 0, of image 1"),
    "an infinite score": ("student", spoilt(STUDENT, score=float("inf")), "inf at entry 0"),
    "a negative score": ("student", spoilt(STUDENT, score=-0.5), "not below 0"),
    "a score in percent": ("teacher", spoilt(TEACHER, score=90), "scores in [0, 1]"),
    "a bool as score": ("teacher", spoilt(TEACHER, score=True), "got True"),
    "a whole number beyond a float": ("teacher", spoilt(TEACHER, bbox=[10**400, 0, 1, 1]), "`bbox`"),
    "no box": ("teacher", spoilt(TEACHER, bbox=...), "got None at entry 0"),
    "not JSON": ("student", b"[{", "COCO results (JSON)"),
    "not UTF-8": ("student", b'["\xff"]', "utf-8"),
    "nested without end": ("student", b"[" * 200_000, "recursion"),
}


@pytest.mark.parametrize(("name", "content", "says"), MISTAKES.values(), ids=MISTAKES)
def test_a_faulty_file_is_explained_in_one_line_and_leaves_nothing(
    files, tmp_path, refused, name, content, says
):
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    files[name].write_bytes(raw)
    error = refused(*replay(tmp_path / "out", **files))
    assert says in error
    assert str(files[name]) in error
    assert len(error) < 400 + len(str(files[name]))
    assert not (tmp_path / "out").exists()


UNKNOWN_IMAGES, UNKNOWN_CLASSES = (f"unknown {what} left out" for what in ("images", "categories"))
ODD = {
    "an object of no picture": ("annotations", objects(image_id=9), f"annotations of {UNKNOWN_IMAGES}"),
    "an object of no class": ("annotations", objects(category_id=9), f"annotations of {UNKNOWN_CLASSES}"),
    "one other class": ("teacher", spoilt(TEACHER, category_id=0), f"detections of {UNKNOWN_CLASSES}"),
    "one other picture": ("teacher", spoilt(TEACHER, image_id=50), f"detections of {UNKNOWN_IMAGES}"),
    "noise above 1": (
        "student",
        spoilt(STUDENT, score=1.0000001),
        "scores outside [0, 1] by a float's noise",
    ),
    "a path out of the folder": ("annotations", pictures(file_name="..\\1.jpg"), None),
    "an absolute path": ("annotations", pictures(file_name="/data/pictures/1.jpg"), None),
    "an absolute path of Windows": ("annotations", pictures(file_name="D:\\pictures\\1.jpg"), None),
}


@pytest.mark.parametrize(("name", "content", "says"), ODD.values(), ids=ODD)
def test_what_is_odd_is_counted_on_stderr_and_in_the_summary(
    files, tmp_path, command, capsys, name, content, says
):
    files[name].write_text(json.dumps(content))
    lenient = ["--lenient"] if says == f"detections of {UNKNOWN_IMAGES}" else []
    assert command(*replay(tmp_path / "out", *lenient, "--json", **files)) == 0
    printed, error = capsys.readouterr()
    told = json.loads(printed)["input_remarks"]
    assert told == ({} if says is None else {name: {says: 1}})
    assert error.strip() == ("" if says is None else f"Note on `{files[name]}`: {says}: 1.")
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["input_remarks"] == told


def test_a_file_that_is_not_there_or_cut_short_is_explained_in_one_line(files, tmp_path, refused):
    missing = tmp_path / "nope.json"
    short = tmp_path / "short.json.gz"
    short.write_bytes(gzip.compress(json.dumps(STUDENT).encode())[:-12])
    for path, says in ((missing, "No such file"), (short, "end-of-stream")):
        assert says in refused(*replay(tmp_path / "out", **files | {"student": path}))
        assert not (tmp_path / "out").exists()
