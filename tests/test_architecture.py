"""Imports go down only, the core meets no model, no data and no metric, and the front door stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "ebjr_det"

# Floor of every room, lowest first. A module may import from lower floors, and inside its own room.
FLOORS = [
    {
        "errors",
        "files",
        "types",
        "columns",
        "plain_yaml",
        "compiling",
        "lettering",
        "parts",
        "popular",
        "threads",
        "load",
    },
    {
        "scores",
        "router",
        "config",
        "checkpoints",
        "records",
        "environment",
        "download",
        "foreign",
        "loader",
        "pictures",
        "mix",
        "video",
        "overlay",
        "runtimes",
    },
    {
        "cost",
        "latency",
        "scenarios",
        "joint",
        "offline",
        "pipeline",
        "tradeoff",
        "intervals",
        "margin",
        "calibration",
        "routing",
        "traffic",
        "equal_cost",
        "training",
    },
    {"tasks", "reporting"},
    {"pair", "exported", "run_folder"},
    {"api"},
    {"cli", "exits"},
    {"__main__", "__init__"},
]
SIDEWAYS = {
    # importer: rooms of its own floor that it may use, each with a reason
    "types": {"errors", "columns"},  # values validate themselves
    "columns": {"errors"},
    "files": {"errors"},
    "parts": {"errors"},
    "popular": {"errors"},
    "lettering": {"errors"},
    "load": {"threads"},  # of the CPUs that this process may use
    "download": {"checkpoints"},  # the manifest knows addresses
    "pipeline": {"joint"},  # the live pair on a stream
    "offline": {"joint"},  # both ask a model in one way
    "latency": {"cost"},  # what was measured is a cost
    "tradeoff": {"cost"},  # a curve carries what its points cost
    "intervals": {"tradeoff"},  # bands belong to curves
    "margin": {"tradeoff", "intervals"},  # a point of a curve over a hull, on the same resamples as the bands
    "traffic": {"cost", "tradeoff", "intervals"},  # the curve of weighted images
    "equal_cost": {"cost", "intervals", "traffic"},  # pairs under a mix, on the same resamples
    "routing": {"tradeoff"},  # out-of-fold scores belong to parts of a run
    "calibration": {"tradeoff"},  # a target is met by a point of a curve
}
TASK_MAY_IMPORT = {"errors", "files", "types", "scores", "checkpoints", "records", "foreign", "pictures"}
TASK_MAY_IMPORT |= {"lettering"}  # labels of boxes
TASK_MAY_IMPORT |= {"routing", "compiling"}  # a fitted router is plain numbers
TASK_MAY_IMPORT |= {"training", "popular", "parts", "runtimes"}
CORE = [
    "router",
    "tradeoff",
    "mix",
    "traffic",
    "equal_cost",
    "scenarios",
    "intervals",
    "margin",
    "joint",
    "offline",
    "cost",
    "calibration",
    "types",
    "errors",
]
HEAVY = {"torch", "torchvision", "timm", "sklearn", "matplotlib"}
HEAVY |= {"onnxruntime", "openvino"}
HEAVY |= {"av", "effdet", "pycocotools", "albumentations", "cv2", "numba"}
HEAVY_HOMES = {
    "torch": {"checkpoints", "environment", "loader", "pair", "runtimes", "tasks", "training", "api"},
    "torchvision": {"environment", "tasks", "api"},
    "timm": {"tasks", "training"},
    "sklearn": {"tasks"},
    "effdet": {"tasks"},
    "albumentations": {"tasks"},
    "cv2": {"tasks"},
    "numba": {"compiling"},
    "matplotlib": {"reporting"},
    "av": {"video"},
    "onnxruntime": {"runtimes"},
    "openvino": {"runtimes"},
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def floor(name: str) -> int:
    return next(index for index, rooms in enumerate(FLOORS) if name in rooms)


def imports(path: Path, *, top_level_only: bool = False) -> set[str]:
    """Dotted names that a module imports; those under TYPE_CHECKING do not count."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    hidden = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = set()
    for node in nodes:
        if node in hidden:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found.add(node.module or "")
    return found


def own_rooms(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imports(path) if name.startswith("ebjr_det.")}


def test_every_room_has_a_floor():
    assert {room(path) for path in modules()} <= set().union(*FLOORS)


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_go_down_only(path: Path):
    here = room(path)
    for other in own_rooms(path) - {here}:
        down = floor(other) < floor(here)
        assert down or other in SIDEWAYS.get(here, set()), f"{here} imports {other}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "tasks").rglob("*.py")), ids=lambda path: path.stem)
def test_a_task_knows_only_the_lower_rooms_and_itself(path: Path):
    assert own_rooms(path) - {"tasks"} <= TASK_MAY_IMPORT
    folder = path.parent.name
    inside = {n for n in imports(path) if n.startswith("ebjr_det.tasks.")}
    assert all(name.split(".")[2] == folder for name in inside), "tasks do not know each other"


@pytest.mark.parametrize("name", CORE)
def test_the_core_imports_no_model_no_data_and_no_metric(name: str):
    roots = {imported.split(".")[0] for imported in imports(PACKAGE / f"{name}.py")}
    assert not roots & HEAVY


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_heavy_libraries_stay_in_the_rooms_that_need_them(path: Path):
    for imported in imports(path):
        homes = HEAVY_HOMES.get(imported.split(".")[0])
        assert homes is None or room(path) in homes, f"{room(path)} imports {imported}"


def test_the_front_door_and_help_load_no_heavy_library():
    code = (
        "import sys, ebjr_det, ebjr_det.cli as c, ebjr_det.exits as e\n"
        "e.run_safely(lambda: c.cli(['--help'], standalone_mode=False))\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_no_file_outgrows_its_room():
    long = {p.name: n for p in modules() if (n := len(p.read_text().splitlines())) > 300}
    assert not long


DECODERS = {"imread", "imdecode", "read_image", "decode_image", "decode_jpeg", "decode_png", "pil_loader"}


def test_only_one_room_decodes_pictures():
    """Else a picture would be turned, or have its bits, in one verb and not in another."""
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
                called = ast.unparse(node.func).split(".")
                decodes = called[-1] in DECODERS or called[-2:] == ["Image", "open"]
                assert not decodes or room(path) == "pictures", (path, node.lineno)
