"""Single models beside the pair, as users give them: files in, the deciding number out."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

IMAGES, BOX = 40, 60
COSTS = ["--student-macs", "1e9", "--teacher-macs", "8e9"]
TIMES = ["--student-ms", "3", "--teacher-ms", "20"]


def write_boxes(
    path: Path, noise: float, generator: np.random.Generator, images=range(1, IMAGES + 1)
) -> Path:
    """A detector that finds the one object of every picture, some pixels beside it."""
    found = [
        {
            "image_id": image,
            "category_id": 1,
            "bbox": [*(20 + generator.normal(0, noise, 2)).tolist(), BOX, BOX],
            "score": float(generator.uniform(0.1, 1)),
        }
        for image in images
    ]
    path.write_text(json.dumps(found))
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Ground truth and three detectors' boxes; labels and three classifiers' logits."""
    folder, generator = tmp_path_factory.mktemp("files"), np.random.default_rng(0)
    ids = range(1, IMAGES + 1)
    truth = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 320, "height": 320} for i in ids],
        "annotations": [{"id": i, "image_id": i, "category_id": 1, "bbox": [20, 20, BOX, BOX]} for i in ids],
        "categories": [{"id": 1, "name": "thing"}],
    }
    paths = {"annotations": folder / "truth.json"}
    paths["annotations"].write_text(json.dumps(truth))
    for name, noise in (("student", 9), ("teacher", 2), ("middle", 5)):
        paths[name] = write_boxes(folder / f"{name}.json", noise, generator)
    paths["strange"] = write_boxes(folder / "strange.json", 1, generator, range(100, 110))
    labels = generator.integers(4, size=IMAGES)
    logits = {name: generator.normal(size=(IMAGES, 4)) + hint * np.eye(4)[labels]
              for name, hint in (("student", 0.7), ("teacher", 3), ("middle", 1.5))}  # fmt: skip
    arrays = {"labels": labels, **{f"{name}_logits": array for name, array in logits.items()}}
    arrays |= {
        "short_logits": logits["middle"][:-1],
        "wide_logits": np.pad(logits["middle"], ((0, 0), (0, 1))),
    }
    for name, array in arrays.items():
        paths[name] = folder / f"{name}.npy"
        np.save(paths[name], array)
    return paths


def replay(files: dict[str, Path], task: str, *options: object) -> list[object]:
    kinds = {"detection": ("annotations", "student", "teacher")}
    kinds["classification"] = ("student_logits", "teacher_logits", "labels")
    given = [part for name in kinds[task] for part in (f"--{name.replace('_', '-')}", files[name])]
    return ["replay", task, *given, "--bootstrap", "30", "--rates", "0.3,0.5", *options]


@pytest.fixture(scope="module")
def undrawn(command):
    """A function: arguments of a command -> its exit code, without the figures, which take their time."""

    def run(*args: object) -> int:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ebjr_det.reporting.write.write_figures", lambda *_: {})
            return command(*args)

    return run


@pytest.fixture(scope="module")
def runs(files, tmp_path_factory: pytest.TempPathFactory, command, undrawn) -> dict[str, Path]:
    """Finished replays beside a third measured model, and one of the pair alone without any cost."""
    folder = tmp_path_factory.mktemp("runs")
    for task, file, run in (("detection", "middle", command), ("classification", "middle_logits", undrawn)):
        options = [*COSTS, *TIMES, "--reference", f"middle={files[file]}:3e9:9", "--out", folder / task]
        assert run(*replay(files, task, *options)) == 0
    assert undrawn(*replay(files, "detection", "--out", folder / "bare")) == 0
    return {path.name: path for path in folder.iterdir()}


def summary_of(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


@pytest.mark.parametrize("task", ["detection", "classification"])
def test_the_third_model_is_judged_as_if_it_were_the_teacher(task, runs, files, tmp_path: Path, undrawn):
    alone = dict(files) | {"teacher": files["middle"], "teacher_logits": files["middle_logits"]}
    assert undrawn(*replay(alone, task, "--out", tmp_path / "alone")) == 0
    (other,) = summary_of(runs[task])["references"]
    assert other["quality"] == pytest.approx(summary_of(tmp_path / "alone")["teacher"]["quality"], abs=1e-12)
    assert (other["name"], other["macs"], other["latency_ms"]) == ("middle", 3e9, 9.0)
    assert other["published"] is False


@pytest.mark.parametrize("task", ["detection", "classification"])
@pytest.mark.parametrize(
    ("kind", "key"), [("macs", "margin_over_hull"), ("latency_ms", "margin_over_hull_ms")]
)
def test_the_margin_is_the_pair_minus_the_best_mixture_at_its_own_cost(task, kind, key, runs):
    summary = summary_of(runs[task])
    joint, scale = summary["joint"], {"macs": (1e9, 8e9, 3e9), "latency_ms": (3.0, 20.0, 9.0)}[kind]
    low, high, middle = scale
    cost = low + joint["deferral_rate"] * high
    quality = [summary[side]["quality"] for side in ("student", "teacher")]
    models = [(low, quality[0]), (high, quality[1]), (middle, summary["references"][0]["quality"])]
    mixtures = [
        a + (cost - x) / (y - x) * (b - a) for x, a in models for y, b in models if x <= cost <= y and x < y
    ]
    assert joint[key] == pytest.approx(joint["quality"] - max(mixtures), abs=1e-12)
    ends = joint[f"{key}_interval"]
    assert ends[0] < ends[1]
    first, second = summary["margins"][kind]
    assert (first["deferral_rate"], second["deferral_rate"]) == (joint["deferral_rate"], 0.5)
    assert (first["value"], [first["low"], first["high"]]) == (joint[key], ends)
    assert first["cost"] == pytest.approx(cost)


def test_every_door_tells_the_same_margin(runs):
    joint = summary_of(runs["detection"])["joint"]
    ends = joint["margin_over_hull_interval"]
    margin = joint["margin_over_hull"]
    mixed = (
        f"that of single models (student, teacher, middle) mixed at random {joint['quality'] - margin:.4f}"
    )
    sentence = f"the pair's AP is {joint['quality']:.4f}, {mixed}: {abs(margin):.4f} "
    interval = f"The 95 % interval of the difference, [{ends[0]:.4f}, {ends[1]:.4f}] from 30 resamples"
    zero = "excludes 0" if ends[0] > 0 or ends[1] < 0 else "includes 0"
    cells = f"{joint['margin_over_hull']:+.4f} | [{ends[0]:.4f}, {ends[1]:.4f}]"
    table, page = ((runs["detection"] / name).read_text() for name in ("table.md", "report.html"))
    assert f"At equal multiply-adds {sentence}{'more' if margin >= 0 else 'less'}. {interval}" in table
    assert f"of the images, {zero}" in table.split(interval)[1].split("(This is the margin over the hull")[0]
    assert sentence.replace("'", "&#39;") in page
    assert cells in table
    assert cells.replace(" | ", "</td><td>") in page
    for cost in ("macs", "latency_ms"):
        assert "middle" in (runs["detection"] / f"AP_by_{cost}.svg").read_text()


def test_compare_shows_every_margin_with_its_interval(runs, tmp_path: Path, capsys, command):
    assert command("compare", runs["detection"], runs["bare"], "--out", tmp_path / "c", "--json") == 0
    joint = summary_of(runs["detection"])["joint"]
    first, second = json.loads(capsys.readouterr().out)["runs"]
    for key in ("margin_over_hull", "margin_over_hull_ms"):
        for name in (key, f"{key}_interval"):
            assert first[name] == joint[name]
            assert second[name] is None
    assert command("compare", runs["detection"], runs["bare"], "--out", tmp_path / "c", "--verbose") == 0
    for text in (capsys.readouterr().out, (tmp_path / "c" / "comparison.md").read_text()):
        for key in ("margin_over_hull", "margin_over_hull_ms"):
            low, high = joint[f"{key}_interval"]
            assert f"{joint[key]:+.4f}" in text
            assert f"[{low:.4f}, {high:.4f}]" in text
        assert "middle" in text  # the screen may wrap the list


def test_without_a_cost_there_is_no_margin(runs):
    summary = summary_of(runs["bare"])
    assert summary["margins"] == {}
    assert summary["references"] == []
    assert summary["joint"]["margin_over_hull"] is None
    assert "hull of single models" not in (runs["bare"] / "table.md").read_text()


def test_a_report_with_further_models_is_redrawn_byte_for_byte(runs, tmp_path: Path, command):
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("run.npz", "analysis.json", "config.yaml", "environment.json"):
        shutil.copy(runs["detection"] / name, copy / name)
    assert command("report", copy) == 0
    for path in runs["detection"].iterdir():
        if path.name != "summary.json":
            assert (copy / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_published_model_is_called_so_and_hides_no_missing_latency(runs, tmp_path: Path, command):
    copy = tmp_path / "copy"
    shutil.copytree(runs["detection"], copy)
    analysis = json.loads((copy / "analysis.json").read_text())
    analysis["references"].append({"name": "D1", "quality": 0.99, "macs": 2e9, "source": "a table"})
    (copy / "analysis.json").write_text(json.dumps(analysis))
    assert command("report", copy) == 0
    before, after = summary_of(runs["detection"]), summary_of(copy)
    assert [one["published"] for one in after["references"]] == [False, True]
    assert after["joint"]["margin_over_hull"] < before["joint"]["margin_over_hull"]
    assert set(after["margins"]) == {"macs"}
    assert after["joint"]["margin_over_hull_ms"] is None
    table, page = (copy / "table.md").read_text(), (copy / "report.html").read_text()
    assert "(student, teacher, middle; D1 published)" in table
    assert "not known, for want of that of D1" in table
    assert "published a table" in page
    drawing = (copy / "AP_by_macs.svg").read_text()
    assert "D1 (published)" in drawing
    assert "published figure" not in (runs["detection"] / "AP_by_macs.svg").read_text()


def test_a_model_without_records_or_a_published_quality_is_refused(runs, tmp_path: Path, refused):
    copy = tmp_path / "copy"
    shutil.copytree(runs["bare"], copy)
    analysis = json.loads((copy / "analysis.json").read_text())
    analysis["references"].append({"name": "ghost", "quality": None, "macs": 2e9})
    (copy / "analysis.json").write_text(json.dumps(analysis))
    assert "`ghost`" in refused("report", copy)


def test_the_way_from_coin_to_oracle_is_in_the_table_and_in_the_summary(runs):
    summary = summary_of(runs["detection"])
    span = summary["oracle_area"] - summary["random_area"]
    assert span > 0
    assert set(summary["coin_to_oracle"]) == set(summary["scores"])
    table = (runs["detection"] / "table.md").read_text()
    assert "coin to oracle %" in table
    rows = {row[1].strip(): row for row in csv.reader(table.splitlines(), delimiter="|") if len(row) > 8}
    for name, area in summary["scores"].items():
        share = (area - summary["random_area"]) / span
        assert summary["coin_to_oracle"][name] == pytest.approx(share, abs=1e-12)
        assert float(rows[name][-2]) == pytest.approx(100 * share, abs=0.051)


# --- Mistakes ---

MISTAKES = {
    "no file": ("m", COSTS, "NAME=FILE:MACS"),
    "no cost": ("m={middle}", COSTS, "NAME=FILE:MACS"),
    "no name": ("={middle}:1e9", COSTS, "NAME=FILE:MACS"),
    "a cost in words": ("m={middle}:many", COSTS, "'many'"),
    "ms in words": ("m={middle}:1e9:fast", COSTS, "'fast'"),
    "a cost of nothing": ("m={middle}:0", COSTS, "multiply-adds of reference `m`"),
    "a negative cost": ("m={middle}:-1e9", COSTS, "got -1"),
    "a cost that is no number": ("m={middle}:nan", COSTS, "got nan"),
    "endless ms": ("m={middle}:1e9:inf", COSTS, "ms of reference `m`"),
    "the student's name": ("student={middle}:1e9", COSTS, "`student` twice"),
    "the teacher's name": ("teacher={middle}:1e9", COSTS, "`teacher` twice"),
    "a name with a slash": ("a/b={middle}:1e9", COSTS, "'a/b'"),
    "a pair of unknown cost": ("m={middle}:1e9", [], "--student-macs"),
    "half a pair's ms": ("m={middle}:1e9", [*COSTS, "--student-ms", "3"], "the ms of both"),
    "negative ms": ("m={middle}:1e9", [*COSTS, "--student-ms", "-3", "--teacher-ms", "4"], "`student_ms`"),
    "a file that is not there": ("m={middle}.no:1e9", COSTS, ".no"),
}
STRANGERS = {
    "detection": [("m={strange}:1e9", "strange.json"), ("m={annotations}:1e9", "truth.json")],
    "classification": [("m={short_logits}:1e9", "short_logits"), ("m={wide_logits}:1e9", "one shape")],
}


@pytest.fixture
def refusal(refused, files, tmp_path: Path):
    """A function: task, options -> the one line that refuses the replay, which leaves nothing."""

    def line(task: str, *options: object) -> str:
        message = refused(*replay(files, task, *options, "--out", tmp_path / "out"))
        assert not (tmp_path / "out").exists()
        return message

    return line


@pytest.mark.parametrize(("reference", "options", "says"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_explained_in_one_line_and_leaves_nothing(files, refusal, reference, options, says):
    assert says in refusal("detection", "--reference", reference.format(**files), *options)


@pytest.mark.parametrize(
    ("task", "reference", "says"), [(task, *case) for task, cases in STRANGERS.items() for case in cases]
)
def test_answers_on_other_images_or_classes_are_refused(files, refusal, task, reference, says):
    assert says in refusal(task, "--reference", reference.format(**files), *COSTS)


def test_one_name_for_two_models_is_refused(files, refusal):
    assert "`m` twice" in refusal("detection", *2 * ["--reference", f"m={files['middle']}:1e9"], *COSTS)


def test_a_colon_and_an_equals_sign_may_be_in_the_files_name(files, tmp_path: Path, undrawn):
    odd = tmp_path / "a:b=c.json"
    shutil.copy(files["middle"], odd)
    for number, costs in enumerate(("3e9", "3e9:9")):
        given = ["--reference", f"m={odd}:{costs}", *COSTS, "--out", tmp_path / f"out{number}"]
        assert undrawn(*replay(files, "detection", *given)) == 0
