"""What a run needs at its end is asked for before its first batch, and then nothing is left behind."""

import json
import math
import sys
from collections import namedtuple
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import ebjr_det
from ebjr_det.config.target import Target
from ebjr_det.core.errors import ConfigError, Infeasible, InvalidInput
from ebjr_det.core.types import PairedRun
from ebjr_det.evaluation.certify import check_reachable, shortfall_bound
from ebjr_det.io import files
from ebjr_det.tasks.classification.metric import Accuracy
from ebjr_det.tasks.settings import load_config, load_specialize_config, load_train_config

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
QUICK = ("data.limit=8", "run.bootstrap=2", "latency.measure=false")

DETECTOR = '''
import numpy as np
from ebjr_det.core.types import Logits, Output
from ebjr_det.tasks.detection.detections import Detections

BATCHES = []

class Detector:
    """Sees the brightest spot; no network that torch could count."""

    name = "numpy"

    def __init__(self, odd):
        self.odd = odd

    def preprocess(self, picture):
        return np.asarray(picture)

    def facts(self, picture):
        return {"parameters": object()} if self.odd else {"parameters": 3}

    def __call__(self, inputs):
        BATCHES.append(len(inputs))
        found = []
        for array in inputs:
            score = np.array([array.mean() / 255 * 0.5 + 0.25])
            found.append(Detections(np.array([[4.0, 4.0, 40.0, 40.0]]), score, np.zeros(1, np.intp)))
        values = np.array([[[np.log(one.scores[0] / (1 - one.scores[0]))]] for one in found])
        return Output(found, Logits(np.repeat(values, 10, axis=2), np.ones((len(found), 1), bool)))

def build(categories, device, odd=False):
    return Detector(odd)
'''


@pytest.fixture
def batches(tmp_path, monkeypatch):
    """A module with a detector that torch cannot count; the sizes of all batches that it was called with."""
    (tmp_path / "detector_of_mine.py").write_text(DETECTOR)
    monkeypatch.syspath_prepend(tmp_path)
    import detector_of_mine

    yield detector_of_mine.BATCHES
    del sys.modules["detector_of_mine"]


def scenes(*changes, student="{arch: 'detector_of_mine:build'}"):
    return load_config(CONFIGS / "quickstart.yaml", [*QUICK, f"student={student}", *changes])


def refused(config, out, error, match):
    with pytest.raises(error, match=match) as caught:
        ebjr_det.evaluate(config, out)
    assert not out.exists(), "nothing is left behind"
    return caught.value


def test_multiply_adds_that_cannot_be_counted_are_asked_for_before_any_batch(batches, tmp_path):
    refused(scenes(), tmp_path / "run", InvalidInput, r"counted none.*`student\.macs`")
    assert batches == [1], "one picture was tried, no batch ran"


def test_a_run_goes_on_with_multiply_adds_that_are_stated_later(batches, tmp_path, monkeypatch):
    monkeypatch.setattr("ebjr_det.reporting.write.write_figures", lambda *_: {})  # they take their time
    out = tmp_path / "run"
    ebjr_det.evaluate(scenes("student.macs=5e6"), out)
    before, seen = (out / "run.npz").read_bytes(), list(batches)
    result = ebjr_det.evaluate(scenes("student.macs=7e6"), out, resume=True)
    assert result.summary["student"]["macs"] == 7e6
    assert ((out / "run.npz").read_bytes(), batches) == (before, seen)


def test_facts_that_no_report_can_hold_are_refused_before_any_batch(batches, tmp_path):
    odd = "{arch: 'detector_of_mine:build', macs: 5.0, options: {odd: true}}"
    refused(scenes(student=odd), tmp_path / "run", InvalidInput, "`facts` of the student as plain")
    assert batches == []


def test_of_the_pictures_the_first_that_can_be_read_is_counted_on(tmp_path):
    from ebjr_det.io.loader import first_readable, readable

    class Images:
        skip_unreadable = True

        def __init__(self, good):
            self.good = good

        def __len__(self):
            return 4

        def load(self, index):
            if index not in self.good:
                raise InvalidInput(f"no picture at {index}")
            return index

    assert first_readable(Images({2, 3})) == 2
    assert readable(Images({1, 3}), [0, 3]) == [3]
    assert readable(Images({1}), [0, 3]) == [1]
    with pytest.raises(InvalidInput, match=r"none among 4.*no picture at 0"):
        first_readable(Images(set()))
    strict = Images({2})
    strict.skip_unreadable = False
    with pytest.raises(InvalidInput, match="no picture at 0"):
        first_readable(strict)


def test_pictures_without_any_object_are_told_before_any_batch(batches, tmp_path):
    (tmp_path / "pictures").mkdir()
    image = {"id": 1, "file_name": "1.png", "width": 8, "height": 8}
    crowd = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 4, 4], "area": 16, "iscrowd": 1}
    truth = {"images": [image], "annotations": [crowd], "categories": [{"id": 1, "name": "ant"}]}
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    data = f"data={{dataset: coco, annotations: {tmp_path}/truth.json, images: {tmp_path}/pictures}}"
    mine = "{arch: 'detector_of_mine:build', macs: 5.0}"
    config = scenes(data, f"teacher={mine}", "router.target=null", student=mine)
    refused(config, tmp_path / "run", InvalidInput, "annotated object that is no crowd")
    assert batches == []


def test_larger_batches_of_the_latency_measurement_are_tried_before_any_other(batches, tmp_path, monkeypatch):
    import detector_of_mine

    whole = detector_of_mine.Detector.__call__

    def small(self, inputs):
        if len(inputs) > 8:
            raise RuntimeError("out of memory")
        return whole(self, inputs)

    monkeypatch.setattr(detector_of_mine.Detector, "__call__", small)
    latency = "latency={batch_size: 1, batch_sizes: [4, 16], batches: 1}"
    config = scenes("student.macs=5.0", latency, "run.batch_size=8")
    refused(config, tmp_path / "run", ConfigError, r"the student can take on .*got 16: out of memory")
    assert batches == []
    with pytest.raises(ConfigError, match=r"at most 10,000,000 pictures, got 100,000,000"):
        scenes("latency={batch_size: 100000, batches: 1000}")


@pytest.fixture
def little_room(monkeypatch):
    """A function: so many bytes are free on every disk."""

    def leave(free):
        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr(files, "disk_usage", lambda place: usage(10**9, 10**9 - free, free))

    return leave


def test_a_full_disk_is_told_before_any_batch(batches, tmp_path, little_room):
    little_room(10**6)
    out = tmp_path / "deep" / "run"
    refused(scenes("student.macs=5.0"), out, InvalidInput, "8 MB of free disk.*got 1 MB")
    assert batches == []


def test_an_out_that_is_taken_is_told_before_any_model_is_built(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    config = load_config(CONFIGS / "digits.yaml", ["student.checkpoint=nope"])
    with pytest.raises(ConfigError, match="Expected an empty --out, got files"):
        ebjr_det.evaluate(config, tmp_path)


def test_a_mix_of_a_class_that_no_picture_shows_is_told_before_any_batch(batches, tmp_path):
    mix = "traffic={popular: ['0', '1'], histogram: {'0': 0.5, '9': 0.5}}"
    config = scenes("student.macs=5.0", mix, "data.limit=1", "router.target=null")
    refused(config, tmp_path / "run", InvalidInput, "Expected images that show")
    assert batches == []


@pytest.mark.parametrize(
    ("target", "error", "match"),
    [
        (
            "{kind: min_quality, value: 0.3, confidence: 0.9}",
            ConfigError,
            "mean over images for `confidence`",
        ),
        ("{kind: macs, value: 4.0}", Infeasible, "at least 5 macs.*got 4"),
        ("{kind: deferral_rate, value: 0.5, fraction: 0.01}", ConfigError, "images on both sides"),
    ],
)
def test_a_target_that_no_result_can_meet_is_told_before_any_batch(target, error, match, batches, tmp_path):
    refused(scenes("student.macs=5.0", f"router.target={target}"), tmp_path / "run", error, match)
    assert batches == []


@pytest.mark.parametrize("kind", ["min_quality", "max_drop"])
def test_a_target_in_percent_is_refused_when_it_is_read(kind):
    with pytest.raises(ConfigError, match=rf"`{kind}` in \[0, 1\], got 39.0.*not percent"):
        load_config(CONFIGS / "quickstart.yaml", [f"router.target={{kind: {kind}, value: 39.0}}"])


@pytest.mark.parametrize("kind", ["max_drop", "min_quality"])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
@pytest.mark.parametrize("allowed", [0.01, 0.1])
def test_so_many_images_as_are_asked_for_certify_a_pair_without_mistakes(kind, confidence, allowed):
    """The number in the line is the least one: against the bound that the calibration itself takes."""
    value = allowed if kind == "max_drop" else 1 - allowed

    def certified(images):
        right = np.ones(images, bool)
        records = {"correct": right, "top5_correct": right}

        ids = tuple(map(str, range(images)))
        run = PairedRun("classification", ids, {"random": np.linspace(0, 1, images)}, records, records)
        bound = shortfall_bound(run, Accuracy(), "random", confidence, kind == "max_drop")
        return bound[-1] <= 1 - value if kind == "min_quality" else bound[-1] <= value

    sure = (1 + confidence) / 2 if kind == "max_drop" else confidence
    enough = math.ceil(math.log(1 - sure) / math.log(1 - allowed) - 1e-9)
    assert (certified(enough), certified(enough - 1)) == (True, False)
    target = Target(kind, value, confidence)
    check_reachable(target, 0.5, 2 * enough, 1.0)
    with pytest.raises(Infeasible, match=f"Expected {enough} images to certify.*got {enough - 1}, 0.5 of"):
        check_reachable(target, 0.5, 2 * enough - 2, 1.0)


def test_too_few_images_for_a_confidence_end_with_code_3_and_an_answer(tmp_path, capsys):
    from ebjr_det.cli import cli
    from ebjr_det.cli.exits import run_safely

    target = "router.target={kind: max_drop, value: 0.01, confidence: 0.95}"
    args = ["evaluate", str(CONFIGS / "digits.yaml"), "--set", "data.limit=100", "--set", target]
    args += ["--out", str(tmp_path / "run"), "--json"]
    assert run_safely(lambda: cli(args, standalone_mode=False)) == 3
    answer = json.loads(capsys.readouterr().out)
    assert answer["feasible"] is False
    assert "Expected 368 images" in answer["reason"]
    assert not (tmp_path / "run").exists()


@pytest.fixture
def without_freetype(monkeypatch):
    """Pillow as it is where it was built without FreeType."""
    from PIL import ImageFont
    from PIL._util import DeferredError

    from ebjr_det.io.lettering import letters

    letters.cache_clear()
    missing = DeferredError.new(ImportError("The _imagingft C module is not installed"))
    monkeypatch.setattr(ImageFont, "core", missing)


@pytest.mark.usefixtures("without_freetype")
def test_pillow_that_cannot_write_is_told_before_any_batch(batches, tmp_path):
    refused(scenes("student.macs=5.0"), tmp_path / "run", ConfigError, "Pillow with FreeType")
    assert batches == []


@pytest.mark.usefixtures("without_freetype")
@pytest.mark.parametrize("pictures", ["scene_pictures", "digit_pictures"])
def test_so_it_is_before_pictures_are_answered_or_filmed(pictures, batches, tmp_path, request):
    config = scenes() if pictures == "scene_pictures" else load_config(CONFIGS / "digits.yaml")
    place, folder = str(request.getfixturevalue(pictures)), tmp_path / "out"
    with pytest.raises(ConfigError, match="Pillow with FreeType"):
        ebjr_det.predict(config, [place], folder / "answers", threshold=0.0)
    with pytest.raises(ConfigError, match="Pillow with FreeType"):
        ebjr_det.demo(config, place, folder / "film.mp4", threshold=0.0)
    assert batches == []
    assert not folder.exists()


def test_a_full_disk_is_told_before_pictures_are_answered_or_filmed(
    batches, scene_pictures, tmp_path, little_room
):
    """Six scenes take 25 kB each at least, and a frame of a film half a kB."""
    little_room(60_000)
    with pytest.raises(InvalidInput, match=r"MB of free disk for what goes to .*out"):
        ebjr_det.predict(scenes(), [str(scene_pictures)], tmp_path / "out", threshold=0.0)
    little_room(2_000)
    with pytest.raises(InvalidInput, match="MB of free disk"):
        ebjr_det.demo(scenes(), str(scene_pictures), tmp_path / "film.mp4", threshold=0.0)
    assert batches == []
    assert not any(path.name in ("out", "film.mp4") for path in tmp_path.iterdir())


TRAINING = """
data: {dataset: digits, split: train, part: [0.0, 0.05]}
validation: {dataset: digits, split: train, part: [0.98, 1.0]}
model: {arch: resnet, depth: 8, width: 8}
schedule: {steps: 2, batch_size: 8, save_every: 1, validate_every: 1}
"""


def training(tmp_path, *changes):
    (tmp_path / "train.yaml").write_text(TRAINING)
    return load_train_config(tmp_path / "train.yaml", list(changes))


@pytest.mark.parametrize(
    "changes",
    [
        (),
        ("schedule.optimizer=sgd", "schedule.weights=float16"),
        ("schedule.optimizer=sgd", "schedule.momentum=0", "validation=null"),
        ("schedule.keep=last",),
    ],
)
def test_a_training_takes_the_room_that_is_asked_for_and_little_more(changes, tmp_path, monkeypatch):
    """Against the files as they are: a state beside the next one, or beside the weights."""
    asked, out = [], tmp_path / "out"
    verb = import_module("ebjr_det.api.train")
    monkeypatch.setattr(verb, "check_space", lambda folder, needed: asked.append(needed))
    ebjr_det.train(training(tmp_path, *changes), out)
    state, weights = ((out / name).stat().st_size for name in ("state.pt", "weights.safetensors"))
    assert 0.5 * (2 * state) < asked[0] <= max(2 * state, state + weights)
    ebjr_det.train(training(tmp_path, *changes), out, resume=True)
    assert 0.7 * state < asked[1] <= state


def test_a_full_disk_is_told_before_anything_is_trained_or_exported(tmp_path, little_room):
    little_room(20_000)
    special = load_specialize_config(CONFIGS / "specialize_digits.yaml")
    for name, verb in {
        "trained": lambda out: ebjr_det.train(training(tmp_path), out),
        "special": lambda out: ebjr_det.specialize(special, out),
        "exported": lambda out: ebjr_det.export(load_config(CONFIGS / "digits.yaml"), out, threshold=0.0),
    }.items():
        with pytest.raises(InvalidInput, match=f"MB of free disk for what goes to .*{name}"):
            verb(tmp_path / name)
        assert not (tmp_path / name).exists()


def test_graphs_take_the_room_that_is_asked_for(exported_digits):
    from ebjr_det.api.space import bytes_of_graphs
    from ebjr_det.inference.pair import build_models
    from ebjr_det.tasks import load_task

    config = load_config(CONFIGS / "digits.yaml")
    named = load_task(config.task).data.build_named(**dict(config.data))
    asked = bytes_of_graphs(build_models(config, named, "cpu"))
    written = sum(path.stat().st_size for path in exported_digits.glob("*.onnx"))
    assert 0.7 * written < asked <= written


UNWRITABLE = "Expected a folder that can be written to"


def test_a_place_that_cannot_be_written_to_is_told_before_a_training_reads_data(tmp_path, monkeypatch):
    """A file is in the way, which stops the user who may do all else, too."""
    from ebjr_det.tasks.classification import data

    built = []
    monkeypatch.setattr(data, "build_data", lambda **settings: built.append(settings))
    (tmp_path / "notes.txt").write_text("mine")
    out, special = tmp_path / "notes.txt" / "run", load_specialize_config(CONFIGS / "specialize_digits.yaml")
    with pytest.raises(InvalidInput, match=UNWRITABLE):
        ebjr_det.train(training(tmp_path), out)
    with pytest.raises(InvalidInput, match=UNWRITABLE):
        ebjr_det.specialize(special, out)
    for verb, config in ((ebjr_det.train, training(tmp_path)), (ebjr_det.specialize, special)):
        with pytest.raises(ConfigError, match="Expected an empty --out, got files"):
            verb(config, tmp_path)
    assert built == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "train.yaml"]


def test_a_place_that_cannot_be_written_to_is_told_before_a_fit_reads_its_files(tmp_path):
    """The files are not there, which would be told if they were read."""
    (tmp_path / "notes.txt").write_text("mine")
    router, taken = tmp_path / "router.safetensors", tmp_path / "notes.txt"
    files = dict.fromkeys(("student", "teacher", "annotations"), tmp_path / "nope.json")
    outputs = ebjr_det.SavedOutputs("detection", files)
    with pytest.raises(InvalidInput, match=UNWRITABLE):
        ebjr_det.fit_router(outputs, taken / "r.safetensors")
    with pytest.raises(InvalidInput, match=UNWRITABLE):
        ebjr_det.fit_router(outputs, router, report_dir=taken / "report")
    with pytest.raises(InvalidInput, match=UNWRITABLE):
        ebjr_det.fit_router(tmp_path / "nope", taken / "r.safetensors")
    with pytest.raises(InvalidInput, match=r"nope\.json"):
        ebjr_det.fit_router(outputs, tmp_path / "deep" / "r.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
