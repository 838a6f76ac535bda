"""`predict RUN` away from the folder in which the run was made: same answers, a word on what was found."""

import json
from pathlib import Path

import pytest
import yaml

from ebjr_det.io.checkpoints.finding import shipped_folder
from ebjr_det.tasks.classification.data import build_data
from ebjr_det.tasks.detection.datasets.digit_scenes import describe, draw_scene

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
DIGITS, SCENES = 60, 24
PARTS = {"first": "[0.0, 0.84]", "second": "[0.84, 1.0]"}  # a router is not tried on what it was fitted on


def write_digits(project: Path) -> list[str]:
    from PIL import Image

    data = build_data("digits", split="test", limit=DIGITS)
    for index in range(DIGITS):
        path = project / "data" / data.class_names[data.labels[index]] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(data.load(index)).save(path)
    return ["data.dataset=image_folder", "data.root=data", "data.split=null"]


def write_scenes(project: Path) -> list[str]:
    truths, images, boxes = describe("test").truths, [], []
    (project / "data" / "pictures").mkdir(parents=True)
    for index in range(SCENES):
        draw_scene("test", index).save(project / "data" / "pictures" / f"{index}.png")
        images.append({"id": index + 1, "file_name": f"{index}.png"})
        for box, label in zip(truths[index].boxes.tolist(), truths[index].labels, strict=True):
            own = {"image_id": index + 1, "category_id": 10 * int(label), "bbox": box, "iscrowd": 0}
            boxes.append(own | {"id": len(boxes) + 1, "area": box[2] * box[3]})
    categories = [{"id": 10 * digit, "name": str(digit)} for digit in range(10)]
    (project / "data" / "truth.json").write_text(
        json.dumps({"images": images, "annotations": boxes, "categories": categories})
    )
    where = ["data.annotations=data/truth.json", "data.images=data/pictures"]
    return ["data.dataset=coco", "data.split=null", "teacher.image_size=128", *where]


TASKS = {
    "classification": ("digits", "digits/student.safetensors", write_digits, "data/*/*.png"),
    "detection": ("quickstart", "scenes/student.safetensors", write_scenes, "data/pictures/*.png"),
}
COSTS = ("student.macs=1e8", "teacher.macs=1e9")
QUICK = (*COSTS, "run.bootstrap=2", "latency.measure=false", "router.target=null")


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_a_run_predicts_elsewhere_as_where_it_was_made(task, command, tmp_path, monkeypatch, capsys):
    """Data, weights and a fitted router have relative names."""
    monkeypatch.setattr("ebjr_det.reporting.write.write_figures", lambda *_: {})  # they take their time
    name, weights, write, pictures = TASKS[task]
    project, elsewhere = tmp_path / "project", tmp_path / "some" / "where"
    (project / "weights").mkdir(parents=True)
    elsewhere.mkdir(parents=True)
    changes = ["student.checkpoint=weights/student.safetensors", *write(project), *QUICK]
    (project / changes[0].split("=")[1]).write_bytes((shipped_folder() / weights).read_bytes())
    given = [part for change in changes for part in ("--set", change)]
    monkeypatch.chdir(project)
    config = CONFIGS / f"{name}.yaml"
    part = {run: ("--set", f"data.part={share}") for run, share in PARTS.items()}
    assert command("evaluate", config, *given, *part["first"], "--out", "runs/first") == 0
    fitted = ("--folds", 2, "--bootstrap", 2, "--out", "routers/fitted.safetensors")
    assert command("fit-router", "run", "runs/first", *fitted) == 0
    router = ("--router", fitted[-1])
    assert command("evaluate", config, *given, *part["second"], *router, "--out", "runs/second") == 0
    names = sorted(str(path) for path in project.glob(pictures))[:4]
    for run in PARTS:
        monkeypatch.chdir(project)
        assert command("predict", f"runs/{run}", *names, "--out", tmp_path / f"here {run}") == 0
        monkeypatch.chdir(elsewhere)
        capsys.readouterr()
        asked = (Path("../../project/runs") / run, *names, "--out", f"there {run}", "--json")
        assert command("predict", *asked) == 0
        said, noted = capsys.readouterr()
        here, there = tmp_path / f"here {run}", elsewhere / f"there {run}"
        assert (there / "predictions.json").read_bytes() == (here / "predictions.json").read_bytes()
        assert (there / "images.json").read_bytes() == (here / "images.json").read_bytes()
        assert json.loads(said)["images"] == len(names)
        written = yaml.safe_load((project / "runs" / run / "config.yaml").read_text())
        relative = [
            f"{section}.{key}"
            for section, keys in written.items()
            if isinstance(keys, dict)
            for key, value in keys.items()
            if isinstance(value, str) and (project / value).exists()
        ]
        assert len(relative) >= 2 + (run == "second")
        for setting in relative:
            assert f"`{setting}` of the run" in noted
