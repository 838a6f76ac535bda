"""Made-up result files for the commands that fit routers, and one router that was fitted on them."""

import hashlib
import json
import shutil
import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from common import DIGITS

from ebjr_det.api import auto_router
from ebjr_det.cli import cli
from ebjr_det.cli.exits import run_safely
from ebjr_det.reporting import page, style, write
from ebjr_det.tasks import routing

CLASSES = ("ant", "bee", "cow", "dog")
FOLDS = 2
QUICK = ("--folds", FOLDS, "--bootstrap", 5)


def box(generator: np.random.Generator) -> list[float]:
    return [*generator.uniform(0, 200, 2).round(2).tolist(), *generator.uniform(10, 100, 2).round(2).tolist()]


@dataclass(frozen=True)
class Detectors:
    """Three files of one set of pictures, as the options of commands."""

    annotations: Path
    student: Path
    teacher: Path

    @property
    def options(self) -> list[object]:
        return [part for name, path in self.__dict__.items() for part in (f"--{name}", path)]

    def changed(self, folder: Path, name: str, content: object) -> "Detectors":
        """The same with one file of other content."""
        path = folder / f"changed_{name}.json"
        path.write_text(json.dumps(content))
        return Detectors(**{**self.__dict__, name: path})


def write_detectors(
    folder: Path, ids: range, seed: int, used: int = len(CLASSES), names: tuple[str, ...] = CLASSES
) -> Detectors:
    """Objects of skewed classes, a student that finds six of ten and a teacher that finds nine, both with
    invented boxes; a picture's content follows from its id and the seed alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    objects: list[dict] = []
    found: dict[str, list[dict]] = {"student": [], "teacher": []}
    for image in ids:
        generator = np.random.default_rng([seed, image])
        for _ in range(generator.integers(1, 5)):
            real, label = box(generator), int(used * generator.random() ** 2) + 1
            own = {"image_id": image, "category_id": label, "bbox": real}
            objects.append(own | {"id": len(objects) + 1, "area": real[2] * real[3], "iscrowd": 0})
            for side, share, error in (("student", 0.6, 0.15), ("teacher", 0.9, 0.05)):
                if generator.random() < share:
                    near = np.abs(np.array(real) + generator.normal(0, error, 4) * (real[2:] * 2))
                    found[side].append(own | {"bbox": near.tolist(), "score": float(generator.beta(4, 2))})
        for side in found:
            for _ in range(4):
                entry = {"image_id": image, "category_id": int(generator.integers(1, len(names) + 1))}
                found[side].append(entry | {"bbox": box(generator), "score": float(generator.beta(1, 6))})
    truth = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 320, "height": 320} for i in ids],
        "annotations": objects,
        "categories": [{"id": key, "name": name} for key, name in enumerate(names, start=1)],
    }
    files = Detectors(*(folder / f"{name}.json" for name in ("truth", "student", "teacher")))
    for path, content in zip(files.__dict__.values(), (truth, *found.values()), strict=True):
        path.write_text(json.dumps(content))
    return files


@pytest.fixture(scope="session", autouse=True)
def _few_trees():
    """Forests of 30 trees, two folds: what a command does with them does not depend on how many there are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(routing, "TREES", 30)
        patch.setattr(auto_router, "FOLDS", FOLDS)
        yield


def run_command(*args: object) -> int:
    return run_safely(lambda: cli([str(arg) for arg in args], standalone_mode=False))


@pytest.fixture(scope="session", autouse=True)
def drawn_once(made_once):
    """Figures of reports that differ in numbers alone are drawn for the first and copied for the next.

    Gives what draws the page's own figure, for tests that look at it.
    """
    draw = write.write_figures

    def write_figures(report, out: Path) -> dict[str, Path]:
        cost, facts = report.curve.cost, (report.run.abstains, report.analysis.live)
        kind = (
            report.task.name, report.analysis.teacher.name, len(report.curves) > 1,
            *(fact is None for fact in facts),
            cost.macs(0.0) is None, cost.latency_ms(0.0) is None,
            *((one.name, one.published, one.macs is None, one.latency_ms is None) for one in report.rivals),
        )  # fmt: skip

        def drawn(folder: Path) -> None:
            folder.mkdir()
            files = {name: path.name for name, path in draw(report, folder).items()}
            (folder / "names.json").write_text(json.dumps(files))

        folder = made_once(f"figures/{hashlib.sha256(repr(kind).encode()).hexdigest()}", drawn)
        shutil.copytree(folder, out, dirs_exist_ok=True, ignore=shutil.ignore_patterns("names.json"))
        return {name: out / file for name, file in json.loads((folder / "names.json").read_text()).items()}

    draw_forms, forms = page.draw_forms, {}

    def drawn_forms(figure, words):
        kind = figure.kind, len(figure.curves), len(figure.references)
        forms[kind] = forms.get(kind) or draw_forms(figure, words)
        return forms[kind]

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(style.STYLE, "savefig.dpi", 40)
        patch.setattr(write, "write_figures", write_figures)
        patch.setattr(page, "draw_forms", drawn_forms)
        yield draw_forms


@pytest.fixture(scope="session")
def command():
    """A function: arguments of `ebjr-det` -> exit code."""
    return run_command


@pytest.fixture
def answer(capsys: pytest.CaptureFixture[str]):
    """A function: arguments of `ebjr-det` -> the object that it prints with `--json`."""

    def printed(*args: object) -> dict:
        capsys.readouterr()
        code = run_command(*args, "--json")
        out, complaint = capsys.readouterr()
        assert code == 0, complaint
        return json.loads(out)

    return printed


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]):
    """A function: arguments of `ebjr-det` -> the one line of a user's mistake, and nothing before it.

    With `alone=False` other lines may stand before it, and all are returned.
    """

    def complaint_of(*args: object, alone: bool = True) -> str:
        capsys.readouterr()
        code = run_command(*args)
        out, complaint = capsys.readouterr()
        assert (code, out) == (2, ""), complaint
        *earlier, line = complaint.strip().splitlines()
        assert line.startswith("ebjr-det: ")
        assert not any(text.startswith(("ebjr-det: ", "Traceback")) for text in earlier)
        assert not (alone and earlier), complaint
        return line if alone else complaint

    return complaint_of


@pytest.fixture(scope="session")
def make_detectors():
    """A function: folder, ids, seed, number of annotated classes, names of classes -> `Detectors`."""
    return write_detectors


@pytest.fixture(scope="session")
def fitted_on(tmp_path_factory: pytest.TempPathFactory) -> Detectors:
    """The files of pictures 1 to 70."""
    return write_detectors(tmp_path_factory.mktemp("fitted_on"), range(1, 71), 0)


@pytest.fixture(scope="session")
def others(tmp_path_factory: pytest.TempPathFactory) -> Detectors:
    """The files of pictures 71 to 120, of the same two detectors."""
    return write_detectors(tmp_path_factory.mktemp("others"), range(71, 121), 0)


@pytest.fixture(scope="session")
def fitted(fitted_on: Detectors, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `router.safetensors` and its whole `report`."""
    folder = tmp_path_factory.mktemp("fitted")
    given = ["--report", folder / "report", "--out", folder / "router.safetensors"]
    costs = ["--student-macs", "1e9", "--teacher-macs", "9e9"]
    assert run_command("fit-router", "detection", *fitted_on.options, *QUICK, *costs, *given) == 0
    return folder


@pytest.fixture(scope="session")
def classifiers(tmp_path_factory: pytest.TempPathFactory):
    """A function: images, seed, classes -> options of two classifiers' logits and labels, with ids."""

    def write(images: range, seed: int, classes: int = 5) -> list[object]:
        folder, width = tmp_path_factory.mktemp("logits"), len(images)
        generator = np.random.default_rng([seed, images.start])
        labels, ids = generator.integers(classes, size=width), np.array([f"i{n}" for n in images])
        options: list[object] = []
        for side, hint in (("student", 1.2), ("teacher", 5.0)):
            logits = generator.normal(size=(width, classes)) + hint * np.eye(classes)[labels]
            np.savez(folder / f"{side}.npz", logits=logits, image_ids=ids)
            options += [f"--{side}-logits", folder / f"{side}.npz"]
        np.savez(folder / "labels.npz", labels=labels, image_ids=ids)
        return [*options, "--labels", folder / "labels.npz"]

    return write


@pytest.fixture(scope="session")
def routed_digits(made_once, command) -> Path:
    """The pair of `digits.yaml` with the router that `evaluate` fits, exported; beside it the `run`."""

    def exported(folder: Path) -> None:
        quick = ("--set", "latency.measure=false", "--set", "run.bootstrap=10")
        assert command("evaluate", DIGITS, "--out", folder / "run", *quick) == 0
        assert command("export", folder / "run", "--out", folder / "pair") == 0

    return made_once("routed", exported) / "pair"


@contextmanager
def at_address(app, port: int = 0):
    """The address of an ASGI application in a thread, which ends with the context."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=5))
    with socket.create_server(("127.0.0.1", port)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(60)


@pytest.fixture(scope="session")
def application_at():
    """A context: an ASGI application, and a port if one is wanted -> its address."""
    return at_address


@pytest.fixture(scope="session")
def served_at():
    """A context: a folder and settings -> the address of a server in a thread, which ends with it."""

    @contextmanager
    def serve(folder: Path, **settings):
        import ebjr_det

        app = ebjr_det.build_serving(folder, ebjr_det.ServeSettings(access_log=False, **settings))
        with at_address(app) as address:
            yield address

    return serve
