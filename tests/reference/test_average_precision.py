"""Match records and all twelve numbers against pycocotools, on real and on awkward detections."""

import gzip
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from common import pycocotools_judge
from pycocotools.cocoeval import COCOeval

from ebjr_det.core.router import decide, threshold_for_rate
from ebjr_det.core.scores import deferral_scores
from ebjr_det.core.tiers import Chain, TieredRun, answering
from ebjr_det.core.tradeoff import mixture, sweep
from ebjr_det.evaluation.tiers.front import Sweep
from ebjr_det.tasks.detection.coco.accumulate import STATS
from ebjr_det.tasks.detection.coco.annotations import load_annotations, load_results
from ebjr_det.tasks.detection.metric import AveragePrecision, match_records
from ebjr_det.tasks.detection.replay import load_pair

TASK = AveragePrecision()
TRUTHS = {"half_a": "instances_val2017_half_a_intboxes.json.gz", "204": "instances_val2017_204.json"}
PAIRS = [("yolov5n_640", "yolo11n_640"), ("fastestdet_352", "yolo11n_640"), ("fastestdet_352", "yolov5n_640")]
RATES = [0.0, 0.1, 0.172, 0.298, 0.397, 0.514, 0.826, 1.0]

slow = pytest.mark.slow
SETS = [
    pytest.param("204", *PAIRS[0], [0.0, 0.298, 1.0]),
    *(pytest.param("204", *pair, RATES, marks=slow) for pair in PAIRS),
    # half a minute of pycocotools for each: every model alone and every pair once
    pytest.param("half_a", *PAIRS[0], [0.298, 1.0], marks=slow),
    pytest.param("half_a", *PAIRS[1], [0.0, 0.397], marks=slow),
    pytest.param("half_a", *PAIRS[2], [0.172, 1.0], marks=slow),
]
MODELS = ["yolo11n_640", *(pytest.param(name, marks=slow) for name in ("yolov5n_640", "fastestdet_352"))]


def read(path: Path):
    raw = path.read_bytes()
    return json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)


def free_energy(output):
    return {"free_energy": deferral_scores(output.logits, "free_energy", top_k=10)}


@pytest.fixture(scope="module")
def files(shared_data):
    """A function: set, model -> the paths of its ground truth and of the model's detections."""
    folder = shared_data / "coco"

    def paths(name, model):
        return folder / "annotations" / TRUTHS[name], folder / "detections" / f"{model}_{name}.json.gz"

    return paths


@pytest.fixture(scope="module")
def judged_alone(files):
    """A function: set, model -> pycocotools' judge of the model alone, made once."""
    return cache(lambda *names: pycocotools_judge(*map(read, files(*names))))


# --- The twelve numbers ---


@pytest.mark.shared
@pytest.mark.parametrize(("name", "student", "teacher", "rates"), SETS)
def test_both_models_and_their_mixtures_are_judged_as_by_pycocotools(
    files, judged_alone, name, student, teacher, rates
):
    (annotations, first), (_, second) = files(name, student), files(name, teacher)
    run = load_pair({"student": first, "teacher": second, "annotations": annotations}, free_energy)
    truth, entries = read(annotations), (read(first), read(second))
    values = run.scores["free_energy"]
    mixtures, order = TASK.mixtures(run.student, run.teacher), np.argsort(-values, kind="stable")
    curve = sweep(run, TASK, "free_energy")
    for rate in rates:
        defer = decide(values, threshold_for_rate(values, rate)).defer
        teachers = {int(run.image_ids[i]) for i in np.flatnonzero(defer)}
        if rate in (0.0, 1.0):
            expected = judged_alone(name, teacher if rate else student).stats
        else:
            mixed = [e for e in entries[0] if e["image_id"] not in teachers]
            mixed += [e for e in entries[1] if e["image_id"] in teachers]
            expected = pycocotools_judge(truth, mixed).stats
        numbers = TASK.metrics(mixture(run, TASK, defer))
        assert list(numbers) == list(STATS)
        np.testing.assert_allclose(list(numbers.values()), expected, rtol=0, atol=1e-12)
        path = mixtures.metrics(order, np.array([defer.sum()]))
        np.testing.assert_allclose([path[key][0] for key in STATS], expected, rtol=0, atol=1e-12)
        assert curve.at_rate(rate).quality == pytest.approx(expected[0], rel=0, abs=1e-12)


def check_tiers(run, chain, truth, entries, points):
    """AP at random thresholds of a chain of three, on a line and judged alone, against pycocotools."""
    generator, sweep_, values = np.random.default_rng(0), Sweep(run, TASK, chain), chain.values(run)
    for _ in range(points):
        counts = np.sort(generator.integers(len(run) + 1, size=2))[::-1]
        line = sweep_.line((int(counts[0]),), [int(counts[1])])
        thresholds = line.thresholds[0].tolist()
        tiers = dict(zip(map(int, run.image_ids), answering(values, thresholds), strict=True))
        mixed = [
            entry for tier, one in enumerate(entries) for entry in one if tiers[entry["image_id"]] == tier
        ]
        expected = pycocotools_judge(truth, mixed).stats[0]
        assert line.quality[0] == pytest.approx(expected, rel=0, abs=1e-12)
        assert sweep_.judge(thresholds).quality[0] == pytest.approx(expected, rel=0, abs=1e-12)


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("topology", ["cascade", "leap"])
def test_three_tiers_are_judged_as_by_pycocotools_at_random_points(files, topology):
    names = ("fastestdet_352", "yolov5n_640", "yolo11n_640")
    (annotations, *_), paths = files("204", names[0]), [files("204", name)[1] for name in names]
    pairs = [
        load_pair({"student": lower, "teacher": paths[-1], "annotations": annotations}, free_energy)
        for lower in paths[:-1]
    ]
    records = dict(zip(names, (pairs[0].student, pairs[1].student, pairs[0].teacher), strict=True))
    scores = dict(zip(names, (pair.scores for pair in pairs), strict=False))
    run = TieredRun("detection", pairs[0].image_ids, records, scores)
    check_tiers(run, Chain(names, ("free_energy",) * 2, topology), read(annotations), [*map(read, paths)], 20)


@pytest.mark.parametrize("topology", ["cascade", "leap"])
def test_three_tiers_of_random_scenes_are_judged_as_by_pycocotools(tmp_path, topology):
    generator, names = np.random.default_rng(0), ("small", "middle", "large")
    truth, *entries = (random_scene(generator)[bool(turn)] for turn in range(4))
    records = {name: judged(tmp_path, truth, one) for name, one in zip(names, entries, strict=True)}
    scores = {name: {"s": generator.random(12).round(1)} for name in names[:2]}
    run = TieredRun("detection", tuple(map(str, range(1, 13))), records, scores)
    check_tiers(run, Chain(names, ("s", "s"), topology), truth, entries, 20)


@pytest.mark.shared
def test_numbers_by_class_are_pycocotools(files, judged_alone):
    annotations, detections = files("204", "yolo11n_640")
    truth = load_annotations(annotations)
    records = match_records(load_results(detections, truth), truth.truths, len(truth.category_ids))
    numbers = TASK.by_class(records)
    judge = judged_alone("204", "yolo11n_640")
    precision, recall = judge.eval["precision"], judge.eval["recall"]
    for k in range(len(truth.category_ids)):
        expected = [precision[:, :, k, 0, 2].mean(), precision[0, :, k, 0, 2].mean()]
        expected += [precision[5, :, k, 0, 2].mean()]
        expected += [precision[:, :, k, area, 2].mean() for area in (1, 2, 3)]
        expected += [recall[:, k, 0, most].mean() for most in (0, 1, 2)]
        expected += [recall[:, k, area, 2].mean() for area in (1, 2, 3)]
        np.testing.assert_allclose(numbers[k], expected, rtol=0, atol=1e-12)
    assert (numbers == -1).any()
    assert (numbers > 0.3).any()


# --- Match records, to the bit ---


def assert_same_records(judge: COCOeval, records):
    """Every flag of pycocotools' evalImgs, ordered [category][area][image], against the records' bits."""
    images, classes = judge.params.imgIds, judge.params.catIds
    owners = np.repeat(np.arange(len(images)), records["counts"])
    rows = {}
    for row, key in enumerate(zip(owners.tolist(), records["label"].tolist(), strict=True)):
        rows.setdefault(key, []).append(row)
    assert len(judge.evalImgs) == 4 * len(images) * len(classes)
    for at, one in enumerate(judge.evalImgs):
        category, area, image = (int(i) for i in np.unravel_index(at, (len(classes), 4, len(images))))
        own, truths = rows.get((image, category), []), records["truths"][image, category, area]
        if one is None:
            assert (own, truths) == ([], 0)
            continue
        bits = np.uint64(10 * area) + np.arange(10, dtype=np.uint64)[:, None]
        for column, flags in (("matched", one["dtMatches"] != 0), ("ignored", one["dtIgnore"])):
            assert ((records[column][own] >> bits & np.uint64(1)).astype(bool) == flags).all()
        assert truths == (np.asarray(one["gtIgnore"]) == 0).sum()
        assert records["score"][own].tolist() == one["dtScores"]
        assert records["rank"][own].tolist() == list(range(len(own)))
        assert records["box"][own].tolist() == [judge.cocoDt.anns[d]["bbox"] for d in one["dtIds"]]


@pytest.mark.shared
@pytest.mark.parametrize("model", MODELS)
def test_records_of_real_detections_are_pycocotools_to_the_bit(files, judged_alone, model):
    annotations, detections = files("204", model)
    truth = load_annotations(annotations)
    records = match_records(load_results(detections, truth), truth.truths, len(truth.category_ids))
    judge = judged_alone("204", model)
    assert_same_records(judge, records)
    assert records["matched"].any()
    assert records["ignored"].any()


def scene(objects, found, images=3, classes=3):
    """COCO dicts from (image, class, box, crowd, area) and (image, class, box, score), ids from 1."""
    truth = {
        "images": [{"id": i + 1, "file_name": f"{i + 1}.jpg"} for i in range(images)],
        "categories": [{"id": 10 * (c + 1), "name": f"class {c}"} for c in range(classes)],
        "annotations": [
            {"id": n + 1, "image_id": i + 1, "category_id": 10 * (c + 1), "bbox": list(box), "area": area,
             "iscrowd": int(crowd)}
            for n, (i, c, box, crowd, area) in enumerate(objects)
        ],
    }  # fmt: skip
    entries = [
        {"image_id": i + 1, "category_id": 10 * (c + 1), "bbox": list(box), "score": score}
        for i, c, box, score in found
    ]
    return truth, entries


def shifted(box, by):
    return [box[0] + by, box[1], box[2], box[3]]


BOX, FAR = [100.0, 100.0, 50.0, 40.0], [400.0, 300.0, 30.0, 30.0]
LARGE = [10.0, 10.0, 200.0, 200.0]


def tied_scores():
    objects = [(i, 0, BOX, False, 2000.0) for i in range(3)]
    found = [(i, 0, shifted(BOX, by), 0.5) for i in (2, 0, 1) for by in (9, 0, 3)]
    return scene(objects, found)


def tied_overlaps():
    objects = [(0, 0, shifted(BOX, -5), False, 2000.0), (0, 0, shifted(BOX, 5), False, 2000.0)]
    return scene(objects, [(0, 0, BOX, 0.9), (0, 0, BOX, 0.8), (0, 0, BOX, 0.7)])


def crowds():
    objects = [(0, 0, LARGE, True, 40000.0), (0, 0, BOX, False, 2000.0), (1, 0, LARGE, True, 30.0)]
    found = [(0, 0, shifted(BOX, by), 0.9 - by / 100) for by in range(0, 30, 3)]
    return scene(objects, [*found, (1, 0, BOX, 0.4), (1, 0, [150, 150, 100, 100], 0.6), (2, 0, BOX, 0.5)])


def boxes_of_no_size():
    point, line = [120.0, 110.0, 0.0, 0.0], [100.0, 100.0, 50.0, 0.0]
    objects = [(0, 0, point, False, 0.0), (0, 0, LARGE, True, 40000.0), (1, 0, line, False, 0.0)]
    found = [(i, 0, box, s) for i in (0, 1) for box, s in ((point, 0.9), (line, 0.8), (BOX, 0.7))]
    return scene(objects, found)


def boxes_too_small_for_their_area():
    """Areas that underflow to 0: pycocotools divides 0 by 0 and takes the NaN for a match."""
    speck = [0.0, 0.0, 1e-200, 1e-200]
    objects = [(0, 0, speck, True, 0.0), (1, 0, speck, False, 0.0), (2, 0, speck, True, 5000.0)]
    return scene(objects, [(i, 0, box, 0.5) for i in range(3) for box in (speck, BOX)])


def more_than_100_detections():
    objects = [(0, 0, BOX, False, 2000.0), (0, 0, FAR, False, 900.0), (0, 1, FAR, False, 900.0)]
    found = [(0, 0, [200.0 + n, 10.0, 40.0, 40.0], 0.9 - n / 1000) for n in range(99)]
    found += [(0, 0, BOX, 0.5), (0, 0, FAR, 0.49), (0, 1, FAR, 0.3), (1, 0, BOX, 0.2)]
    return scene(objects, found)


def nothing_to_find():
    return scene([(0, 0, BOX, False, 2000.0)], [(0, 1, BOX, 0.9), (1, 0, BOX, 0.8), (1, 2, FAR, 0.7)])


def nothing_found_in_most():
    objects = [(i, i % 2, BOX, False, 2000.0) for i in range(3)]
    return scene(objects, [(1, 2, BOX, 0.9)])


def the_ends_of_the_area_ranges():
    sides = [32.0, 96.0, np.nextafter(32.0, 0), np.nextafter(96.0, 200), 1e5, 2e5]
    boxes = [[0.0, 0.0, side, side] for side in sides]
    objects = [(n, 0, box, False, box[2] * box[3]) for n, box in enumerate(boxes)]
    found = [(n, 0, box, 0.9) for n, box in enumerate(boxes)]
    found += [(n, 0, shifted(box, 2 * box[2]), 0.8) for n, box in enumerate(boxes)]
    return scene(objects, found, images=len(sides))


def areas_of_masks():
    objects = [(0, 0, LARGE, False, 900.0), (0, 0, BOX, False, 20000.0), (1, 0, LARGE, False, 0.0)]
    return scene(objects, [(i, 0, box, s) for i in (0, 1) for box, s in ((LARGE, 0.9), (BOX, 0.8))])


def an_ignored_object_fits_better():
    objects = [(0, 0, shifted(BOX, 8), False, 2000.0), (0, 0, BOX, True, 2000.0)]
    return scene(objects, [(0, 0, BOX, 0.9), (0, 0, BOX, 0.8), (0, 0, shifted(BOX, 1), 0.8)])


def overlap_exactly_at_a_threshold():
    objects = [(0, 0, [0.0, 0.0, 100.0, 100.0], False, 10000.0)]
    found = [(0, 0, [0.0, 0.0, 100.0, float(side)], side / 100) for side in (50, 55, 60, 65, 70, 75, 90, 95)]
    return scene(objects, found)


def images_out_of_order():
    truth, entries = crowds()
    for part in ("images", "annotations", "categories"):
        truth[part] = truth[part][::-1]
    return truth, entries[::-1]


AWKWARD = [
    tied_scores, tied_overlaps, crowds, boxes_of_no_size, boxes_too_small_for_their_area,
    more_than_100_detections, nothing_to_find, nothing_found_in_most, the_ends_of_the_area_ranges,
    areas_of_masks, an_ignored_object_fits_better, overlap_exactly_at_a_threshold, images_out_of_order,
]  # fmt: skip


def judged(tmp_path, truth, entries):
    """Our records of COCO files that hold these dicts."""
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "found.json").write_text(json.dumps(entries))
    loaded = load_annotations(tmp_path / "truth.json")
    results = load_results(tmp_path / "found.json", loaded)
    return match_records(results, loaded.truths, len(loaded.category_ids))


@pytest.mark.parametrize("made", AWKWARD)
@pytest.mark.filterwarnings("ignore:invalid value encountered")
def test_awkward_scenes_are_matched_and_judged_as_by_pycocotools(tmp_path, made):
    truth, entries = made()
    judge, records = pycocotools_judge(truth, entries), judged(tmp_path, truth, entries)
    assert_same_records(judge, records)
    np.testing.assert_allclose(list(TASK.metrics(records).values()), judge.stats, rtol=0, atol=1e-12)


def random_scene(generator, images=12, classes=3):
    """Whole-pixel boxes on a coarse grid and scores of one digit: ties of scores and of overlaps abound."""

    def boxes(count):
        corners, sides = generator.integers(0, 8, (count, 2)), generator.integers(0, 6, (count, 2))
        return (np.concatenate([corners, sides], axis=1) * generator.choice([8, 20])).astype(float).tolist()

    def label():
        return int(generator.integers(classes))

    objects, found = [], []
    for image in range(images):
        for box in boxes(generator.integers(0, 7)):
            area = float(generator.choice([box[2] * box[3], 100, 2000, 20000]))
            objects += [(image, label(), box, bool(generator.random() < 0.2), area)]
            found += [objects[-1][:3]] * int(generator.integers(3))
        found += [(image, label(), box) for box in boxes(generator.integers(0, 9))]
    return scene(objects, [(*f, float(generator.integers(0, 11) / 10)) for f in found], images, classes)


@pytest.mark.parametrize("seed", range(8))
def test_random_scenes_full_of_ties_are_matched_and_judged_as_by_pycocotools(tmp_path, seed):
    generator = np.random.default_rng(seed)
    truth, first = random_scene(generator)
    _, second = random_scene(generator)
    records = [judged(tmp_path, truth, entries) for entries in (first, second)]
    for one, entries in zip(records, (first, second), strict=True):
        assert_same_records(pycocotools_judge(truth, entries), one)
    order = generator.permutation(12)
    numbers = TASK.mixtures(*records).metrics(order, np.arange(13))
    for count in range(13):
        teachers = set((order[:count] + 1).tolist())
        mixed = [e for e in first if e["image_id"] not in teachers]
        mixed += [e for e in second if e["image_id"] in teachers]
        expected = pycocotools_judge(truth, mixed).stats
        np.testing.assert_allclose([numbers[key][count] for key in STATS], expected, rtol=0, atol=1e-12)
