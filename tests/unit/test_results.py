"""What an evaluation leaves as COCO files is what it judged: read back, it gives the same records."""

import gzip
import json

import numpy as np
import pytest
from PIL import Image

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.router import decide
from ebjr_det.core.types import PairedRun
from ebjr_det.tasks.detection.artifacts import write_gallery, write_results_of
from ebjr_det.tasks.detection.coco.annotations import Annotations, Truth, load_annotations, load_results
from ebjr_det.tasks.detection.coco.results import detections_of, entries, write_annotations, write_results
from ebjr_det.tasks.detection.data import DetectionSet
from ebjr_det.tasks.detection.detections import Detections
from ebjr_det.tasks.detection.metric import AveragePrecision, Target, match_records
from ebjr_det.tasks.detection.replay import load_pair

CATEGORY_IDS = (2, 5, 90)
SEED = 4


def made_up_truths(images=12, seed=SEED):
    generator = np.random.default_rng(seed)
    truths = []
    for image in range(images):
        count = 0 if image == 3 else int(generator.integers(1, 9))
        boxes = np.concatenate(
            [generator.uniform(0, 200, (count, 2)), generator.uniform(4, 120, (count, 2))], axis=1
        )
        truths.append(
            Truth(
                boxes,
                generator.integers(3, size=count),
                boxes[:, 2] * boxes[:, 3] * generator.uniform(0.4, 1, count),
                generator.random(count) < 0.15,
            )
        )
    return tuple(truths)


def made_up_annotations(seed=SEED):
    truths = made_up_truths(seed=seed)
    ids = tuple(range(100, 100 + 3 * len(truths), 3))
    names = tuple(f"{i:06d}.jpg" for i in ids)
    sizes = np.full((len(ids), 2), 330)
    return Annotations(ids, names, sizes, CATEGORY_IDS, ("a", "b", "c"), truths)


def made_up_detections(truths, seed, noise):
    """Boxes near the objects, some doubled, some of another class, some of nothing; scores with ties."""
    generator = np.random.default_rng(seed)
    found = []
    for image, truth in enumerate(truths):
        boxes = np.repeat(truth.boxes, 2, axis=0)
        boxes = np.concatenate([boxes, generator.uniform(5, 150, (0 if image == 5 else 4, 4))])
        boxes[:, :2] += generator.normal(0, noise, (len(boxes), 2))
        labels = np.concatenate(
            [np.repeat(truth.labels, 2), generator.integers(3, size=len(boxes) - 2 * len(truth))]
        )
        labels = np.where(generator.random(len(boxes)) < 0.2, generator.integers(3, size=len(boxes)), labels)
        if image == 7:
            boxes, labels = boxes[:0], labels[:0]
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + np.abs(boxes[:, 2:])], axis=1)
        scores = generator.random(len(boxes)).astype(np.float32).astype(np.float64)
        scores[::3] = 0.25
        order = np.argsort(-scores, kind="stable")
        found.append(Detections(corners[order], scores[order], labels[order].astype(np.intp)))
    return found


@pytest.fixture(scope="module")
def annotations():
    return made_up_annotations()


@pytest.fixture(scope="module")
def run(annotations):
    task = AveragePrecision()
    targets = [Target(truth, 3) for truth in annotations.truths]
    student, teacher = (
        task.match(made_up_detections(annotations.truths, seed, noise), targets)
        for seed, noise in ((1, 12), (2, 3))
    )
    scores = {"free_energy": np.random.default_rng(0).normal(size=len(targets))}
    return PairedRun("detection", tuple(map(str, annotations.image_ids)), scores, student, teacher)


def assert_same_records(got, expected):
    assert got.keys() == expected.keys()
    for name, column in expected.items():
        np.testing.assert_array_equal(got[name], column, err_msg=name)


def test_written_annotations_are_read_back_to_the_bit(annotations, tmp_path):
    write_annotations(annotations, tmp_path / "a.json.gz")
    got = load_annotations(tmp_path / "a.json.gz")
    for name in ("image_ids", "file_names", "category_ids", "class_names"):
        assert getattr(got, name) == getattr(annotations, name)
    np.testing.assert_array_equal(got.sizes, annotations.sizes)
    for own, expected in zip(got.truths, annotations.truths, strict=True):
        for name in ("boxes", "labels", "areas", "crowd"):
            np.testing.assert_array_equal(getattr(own, name), getattr(expected, name))


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_written_detections_match_to_the_same_records(annotations, run, side, tmp_path):
    matches = getattr(run, side)
    write_results(matches, annotations.image_ids, CATEGORY_IDS, tmp_path / "r.json.gz")
    results = load_results(tmp_path / "r.json.gz", annotations)
    assert_same_records(match_records(results, annotations.truths, 3), matches)


def test_a_result_file_is_cocos_and_best_first(annotations, run, tmp_path):
    write_results(run.student, annotations.image_ids, CATEGORY_IDS, tmp_path / "r.json.gz")
    rows = json.loads(gzip.decompress((tmp_path / "r.json.gz").read_bytes()))
    assert len(rows) == run.student["counts"].sum()
    assert {frozenset(row) for row in rows} == {frozenset(("image_id", "category_id", "bbox", "score"))}
    assert {row["category_id"] for row in rows} == set(CATEGORY_IDS)
    for image in annotations.image_ids:
        scores = [row["score"] for row in rows if row["image_id"] == image]
        assert scores == sorted(scores, reverse=True)


def test_pycocotools_judges_the_written_files_the_same(annotations, run, tmp_path, capsys):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    write_annotations(annotations, tmp_path / "a.json.gz")
    write_results(run.student, annotations.image_ids, CATEGORY_IDS, tmp_path / "r.json.gz")
    for name in "ar":
        content = gzip.decompress((tmp_path / f"{name}.json.gz").read_bytes())
        (tmp_path / f"{name}.json").write_bytes(content)
    truth = COCO(str(tmp_path / "a.json"))
    judge = COCOeval(truth, truth.loadRes(str(tmp_path / "r.json")), "bbox")
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    own = AveragePrecision().metrics(run.student)
    np.testing.assert_allclose(judge.stats, list(own.values()), atol=1e-12)
    assert 0.05 < own["AP"] < 0.95


def test_the_bytes_of_a_file_are_the_same_whenever_it_is_written(annotations, run, tmp_path, monkeypatch):
    import time

    now = time.time()
    for name, at in (("one", now), ("two", now + 1e6)):
        monkeypatch.setattr(time, "time", lambda at=at: at)
        write_results(run.student, annotations.image_ids, CATEGORY_IDS, tmp_path / f"{name}.json.gz")
    assert (tmp_path / "one.json.gz").read_bytes() == (tmp_path / "two.json.gz").read_bytes()


def test_the_pair_that_is_written_is_the_mixture_at_the_threshold(annotations, run, tmp_path):
    data = DetectionSet(annotations, lambda _: None)
    threshold = float(np.median(run.scores["free_energy"]))
    defer = decide(run.scores["free_energy"], threshold).defer
    write_results_of(tmp_path, data, run, defer)
    files = {p.name for p in tmp_path.iterdir()}
    assert files == {f"{name}.json.gz" for name in ("annotations", "student", "teacher", "joint")}
    written = {
        side: load_results(tmp_path / f"{side}.json.gz", load_annotations(tmp_path / "annotations.json.gz"))
        for side in ("student", "teacher", "joint")
    }
    assert 0 < defer.sum() < len(defer)
    for image, deferred in enumerate(defer):
        source = written["teacher" if deferred else "student"][image]
        np.testing.assert_array_equal(written["joint"][image].boxes, source.boxes)
        np.testing.assert_array_equal(written["joint"][image].scores, source.scores)
    order = np.argsort(~defer, kind="stable")
    task = AveragePrecision()
    mixed = task.mixtures(run.student, run.teacher).path(order, np.array([defer.sum()]))
    judged = task.metrics(match_records(written["joint"], annotations.truths, 3))["AP"]
    assert judged == pytest.approx(mixed[0], abs=1e-12)


def test_only_the_images_of_the_run_are_annotated(annotations, run, tmp_path):
    """A picture that could not be read has no annotations either, or the files would be judged lower."""
    task, some = AveragePrecision(), np.array([0, 2, 3, 8])
    part = PairedRun(
        "detection",
        tuple(run.image_ids[i] for i in some),
        {"free_energy": run.scores["free_energy"][some]},
        task.take(run.student, some),
        task.take(run.teacher, some),
    )
    write_results_of(tmp_path, DetectionSet(annotations, lambda _: None), part, np.zeros(4, dtype=bool))
    assert load_annotations(tmp_path / "annotations.json.gz").image_ids == tuple(map(int, part.image_ids))


def test_replaying_the_written_files_gives_the_same_records_and_figures(annotations, run, tmp_path):
    write_results_of(tmp_path, DetectionSet(annotations, lambda _: None), run, np.zeros(len(run), dtype=bool))
    files = {name: tmp_path / f"{name}.json.gz" for name in ("student", "teacher", "annotations")}
    again = load_pair(files, lambda output: {"least": -output.logits.values[:, 0, 0]})
    assert again.image_ids == run.image_ids
    task = AveragePrecision()
    for side in ("student", "teacher"):
        assert_same_records(getattr(again, side), getattr(run, side))
        assert task.metrics(getattr(again, side)) == task.metrics(getattr(run, side))


def test_the_detections_of_an_image_are_those_that_were_judged(annotations, run):
    found = made_up_detections(annotations.truths, 1, 12)
    for image, expected in enumerate(found):
        got, right = detections_of(run.student, image)
        np.testing.assert_array_equal(got.scores, expected.scores)
        rows = {(*box, score, label) for box, score, label in zip(
            expected.boxes.round(9).tolist(), expected.scores, expected.labels, strict=True)}  # fmt: skip
        assert rows == {(*box, score, label) for box, score, label in zip(
            got.boxes.round(9).tolist(), got.scores, got.labels, strict=True)}  # fmt: skip
        assert len(right) == len(got)
        assert not right[[not _overlaps(box, label, annotations.truths[image]) for box, label in zip(
            got.boxes, got.labels, strict=True)]].any()  # fmt: skip
    assert any(detections_of(run.student, image)[1].any() for image in range(len(found)))


def _overlaps(box, label, truth):
    """Whether a box has an IoU of 0.5 with an object of its class (or lies half in a crowd)."""
    for (x, y, w, h), own, crowd in zip(truth.boxes, truth.labels, truth.crowd, strict=True):
        wide = min(box[2], x + w) - max(box[0], x)
        high = min(box[3], y + h) - max(box[1], y)
        shared, area = max(wide, 0) * max(high, 0), (box[2] - box[0]) * (box[3] - box[1])
        whole = area if crowd else area + w * h - shared
        if own == label and shared >= 0.5 * whole - 1e-9:
            return True
    return False


def test_entries_are_cocos():
    found = Detections(np.array([[1.0, 2.0, 4.0, 8.0]]), np.array([0.5]), np.array([2]))
    assert list(entries(found, 7, CATEGORY_IDS)) == [
        {"image_id": 7, "category_id": 90, "bbox": [1.0, 2.0, 3.0, 6.0], "score": 0.5}
    ]


def errors_of(matches, image, truth):
    """What a person counts: of the boxes from 0.3 on, at least three, those on nothing; and objects on which
    none is. Greedy by score and class at an IoU of 0.5, a crowd taking what no object took.
    """
    found, _ = detections_of(matches, image)
    drawn = max(int((found.scores >= 0.3).sum()), min(3, len(found)))
    corners = np.concatenate([truth.boxes[:, :2], truth.boxes[:, :2] + truth.boxes[:, 2:]], axis=1)
    free, wrong = set(np.flatnonzero(~truth.crowd).tolist()), 0
    crowds = np.flatnonzero(truth.crowd).tolist()
    for box, label in zip(found.boxes[:drawn], found.labels[:drawn].tolist(), strict=True):
        fits = [(overlap(box, corners[at]), at) for at in sorted(free) if truth.labels[at] == label]
        best = max(fits, default=(0.0, -1))
        if best[0] >= 0.5:
            free.discard(best[1])
        elif not any(
            truth.labels[at] == label and overlap(box, corners[at], crowd=True) >= 0.5 for at in crowds
        ):
            wrong += 1
    return wrong + len(free)


def overlap(box, other, crowd=False):
    wide = min(box[2], other[2]) - max(box[0], other[0])
    high = min(box[3], other[3]) - max(box[1], other[1])
    shared = max(0.0, wide) * max(0.0, high)
    area, rest = ((b[2] - b[0]) * (b[3] - b[1]) for b in (box, other))
    return shared / (area if crowd else area + rest - shared)


def test_the_gallery_shows_gains_losses_and_doubt_and_survives_a_lost_picture(annotations, run, tmp_path):
    lost = int(np.argmax(run.scores["free_energy"]))

    def load(index):
        if index == lost:
            raise InvalidInput("gone")
        return Image.new("RGB", (330, 330), "grey")

    decision = decide(run.scores["free_energy"], 0.0)
    for _ in range(2):  # a second time replaces the first
        write_gallery(tmp_path, DetectionSet(annotations, load), run, decision)
    gallery = json.loads((tmp_path / "gallery.json").read_text())
    groups = {group["title"]: group["pictures"] for group in gallery["groups"]}
    assert list(groups) == ["Gained most", "Lost most", "Hardest"]
    reward = AveragePrecision().mixtures(run.student, run.teacher).reward()
    errors = [
        {image: errors_of(matches, image, truth) for image, truth in enumerate(annotations.truths)}
        for matches in (run.student, run.teacher)
    ]
    gains = [errors[0][image] - errors[1][image] for image in range(len(run))]
    assert len(set(gains)) > 4
    for title, sign in (("Gained most", 1), ("Lost most", -1)):
        order = sorted(
            range(len(run)), key=lambda image, sign=sign: (-sign * gains[image], -sign * reward[image])
        )
        best = [image for image in order if sign * gains[image] > 0][:4]
        assert [e["image_id"] for e in groups[title]] == [run.image_ids[i] for i in best if i != lost]
        for entry in groups[title]:
            image = run.image_ids.index(entry["image_id"])
            said = f"errors {errors[0][image]} by the student and {errors[1][image]} by the teacher"
            assert said in entry["caption"]
            assert f"AP {1e3 * reward[image]:+.3f} thousandths" in entry["caption"]
    named = {entry["file"] for group in groups.values() for entry in group}
    assert named == {f"gallery/{path.name}" for path in (tmp_path / "gallery").iterdir()}
    assert all(run.image_ids[lost] != entry["image_id"] for group in groups.values() for entry in group)
    for group in groups.values():
        for entry in group:
            with Image.open(tmp_path / entry["file"]) as drawn:
                assert drawn.size == (entry["width"], entry["height"])
            place = run.image_ids.index(entry["image_id"])
            assert ("teacher" if decision.defer[place] else "student") in entry["caption"]
