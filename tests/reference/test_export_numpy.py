"""An exported folder followed by a second program that knows this package's answers only from their files.

The program has numpy, onnxruntime and PIL; it was written from the documents of effdet and of `pair.json`.
"""

import json
import subprocess
import sys

import numpy as np
import pytest

import ebjr_det
from ebjr_det.api.settings import load_settings

SECOND = """
import json, math, sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

folder, pictures = Path(sys.argv[1]), sorted(Path(sys.argv[2]).iterdir())
pair = json.loads((folder / "pair.json").read_text())
detection = pair["task"] == "detection"


class Model:
    def __init__(self, told):
        self.around, self.outputs = told["around"], told["outputs"]
        providers = ["CPUExecutionProvider"]
        self.session = onnxruntime.InferenceSession(str(folder / told["file"]), providers=providers)

    def __call__(self, image):
        batch, scale = self.input(image)
        (name,) = [one.name for one in self.session.get_inputs()]
        raw = dict(zip(self.outputs, self.session.run(self.outputs, {name: batch[None]})))
        if not detection:
            return raw["logits"][0].astype(np.float64)
        return self.boxes(raw["logits"][0], raw["offsets"][0], scale, image.size)

    def input(self, image):
        if not detection:
            own = self.around["preprocessing"]
            pixels = np.asarray(image, dtype=np.float32) / 255
            values = (pixels - np.array(own["mean"])) / np.array(own["std"])
            return values.transpose(2, 0, 1).astype(np.float32), 1.0
        (high, wide), mean = self.around["letterbox"]["size"], self.around["letterbox"]["mean"]
        ratio = min(high / image.height, wide / image.width)
        small = image.resize((int(image.width * ratio), int(image.height * ratio)), Image.BILINEAR)
        canvas = Image.new("RGB", (wide, high), tuple(round(255 * value) for value in mean))
        canvas.paste(small, (0, 0))
        return np.asarray(canvas).transpose(2, 0, 1).copy(), 1 / ratio

    def anchors(self):
        own = self.around["anchors"]
        high, wide = own["image_size"]
        found = []
        for level in range(own["min_level"], own["max_level"] + 1):
            step = 2**level
            for row in range(high // step):
                for column in range(wide // step):
                    for octave in range(own["num_scales"]):
                        for across, down in own["aspect_ratios"]:
                            side = own["anchor_scale"] * step * 2 ** (octave / own["num_scales"])
                            center = (row + 0.5) * step, (column + 0.5) * step
                            found.append((*center, side * down, side * across))
        return found

    def boxes(self, logits, offsets, scale, size):
        own, anchors, columns = self.around["suppression"], self.anchors(), self.around["classes"]["columns"]
        best = np.argsort(-logits.reshape(-1), kind="stable")[: own["max_detection_points"]]
        kept = []
        for place in best.tolist():
            anchor, output = divmod(place, logits.shape[1])
            y, x, h, w = anchors[anchor]
            ty, tx, th, tw = map(float, offsets[anchor])
            y, x, h, w = y + ty * h, x + tx * w, h * math.exp(th), w * math.exp(tw)
            box = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
            box = [min(max(value, 0), size[at % 2] / scale) for at, value in enumerate(box)]
            if any(output == other[1] and overlap(box, other[0]) > 0.5 for other in kept):
                continue
            kept.append((box, output, anchor))
            if len(kept) == own["max_detections"]:
                break
        found = []
        for box, output, anchor in kept:
            corners = [value * scale for value in box]
            score = 1 / (1 + math.exp(-float(logits[anchor, output])))
            if output in columns:
                row = logits[anchor][columns].astype(np.float64)
                found.append((corners, score, columns.index(output), row))
        return found


def overlap(a, b):
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0
    return w * h / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h)


def softmax(row):
    powers = np.exp(row - row.max())
    return powers / powers.sum()


def doubt(answer):
    router = pair["router"]
    assert router["file"] is None and router["aggregate"] == "mean" and not router["options"]
    if router["score"] == "max_softmax":
        return -float(softmax(answer).max())
    assert router["score"] == "free_energy"
    rows = [row for *_, row in answer[: router["top_k"]]] or [np.full(len(pair["classes"]), -20.0)]
    return float(np.mean([-math.log(np.exp(row - row.max()).sum()) - row.max() for row in rows]))


def entries(answer, number):
    if not detection:
        best = int(answer.argmax())
        return [{"image_id": number, "category_id": best, "score": float(softmax(answer)[best])}]
    ids = sorted(map(int, pair["classes"]))
    return [
        {"image_id": number, "category_id": ids[label], "score": score,
         "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]]}
        for box, score, label, _ in answer
    ]


student, teacher, told, who = Model(pair["student"]), Model(pair["teacher"]), [], []
for number, path in enumerate(pictures, start=1):
    image = Image.open(path).convert("RGB")
    answer = student(image)
    score = doubt(answer)
    deferred = score > pair["threshold"]
    told += entries(teacher(image) if deferred else answer, number)
    who.append({"answered_by": "teacher" if deferred else "student", "deferral_score": score})
assert not any(name.split(".")[0] in ("ebjr_det", "torch", "numba") for name in sys.modules)
print(json.dumps({"predictions": told, "images": who}))
"""


def second(folder, pictures, tmp_path):
    """What the second program says, run outside of the checkout."""
    script = tmp_path / "second.py"
    script.write_text(SECOND)
    command = [sys.executable, script, folder, pictures]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def served(folder, pictures, out):
    """What `predict` writes."""
    settings, _ = load_settings(folder)
    ebjr_det.predict(settings, [str(pictures)], out)
    read = {name: json.loads((out / f"{name}.json").read_text()) for name in ("predictions", "images")}
    return read


@pytest.mark.parametrize("task", ["scenes", "digits"])
def test_a_second_program_gives_the_same_answers(task, request, tmp_path):
    folder, pictures = (request.getfixturevalue(n) for n in (f"exported_{task}", f"{task[:-1]}_pictures"))
    wanted, found = second(folder, pictures, tmp_path), served(folder, pictures, tmp_path / "out")
    assert [one["answered_by"] for one in found["images"]] == [one["answered_by"] for one in wanted["images"]]
    assert {one["answered_by"] for one in found["images"]} == {"student", "teacher"}
    ours, theirs = ([one["deferral_score"] for one in each["images"]] for each in (found, wanted))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
    assert len(found["predictions"]) == len(wanted["predictions"]) > len(wanted["images"]) - 1
    for key in ("image_id", "category_id"):
        assert [one[key] for one in found["predictions"]] == [one[key] for one in wanted["predictions"]]
    for key, off in {"score": 1e-6, "bbox": 1e-3}.items():
        if key in wanted["predictions"][0]:
            ours, theirs = ([one[key] for one in each["predictions"]] for each in (found, wanted))
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=off)
