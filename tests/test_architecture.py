"""Imports go down only, the core meets no model, no data and no metric, and the front door stays light."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "ebjr_det"

# The rooms, lowest floor first. A module may import from lower floors, and inside its own room.
FLOORS = [
    "core",
    "io",
    "config",
    "runtimes",
    "routing",
    "training",
    "tasks",
    "inference",
    "serving",
    "bulk",
    "evaluation",
    "reporting",
    "api",
    "cli",
]
DOOR = {"__init__", "__main__"}
SHARED = {
    "popular",
    "adapted",
    "folder",
    "contract",
    "routing",
    "image_mean",
    "unlabelled",
    "weights",
    "hub",
    "outputs",
    "trusted",
    "options",
    "tensors",
    "gallery",
}  # of `tasks`, for every task
TASK_MAY_IMPORT = {"core", "io", "config", "runtimes", "routing", "training"}
HEAVY = {"torch", "torchvision", "timm", "sklearn", "matplotlib"}
HEAVY |= {"onnxruntime", "openvino", "transformers", "ultralytics", "onnx"}
HEAVY |= {"supervision", "nncf"}
HEAVY |= {"starlette", "uvicorn", "prometheus_client"}
HEAVY |= {"ray", "pyarrow", "fsspec"}
HEAVY |= {"av", "effdet", "pycocotools", "albumentations", "cv2", "numba"}
HEAVY_HOMES = {
    "torch": {"io", "runtimes", "training", "tasks", "inference", "evaluation", "api"},
    "torchvision": {"io", "tasks", "api"},
    "timm": {"tasks", "training"},
    "transformers": {"tasks"},
    "ultralytics": {"tasks"},
    "onnx": {"runtimes"},
    "sklearn": {"tasks"},
    "effdet": {"tasks"},
    "albumentations": {"tasks"},
    "cv2": {"tasks"},
    "numba": {"io"},
    "matplotlib": {"reporting"},
    "av": {"io"},
    "onnxruntime": {"runtimes"},
    "openvino": {"runtimes"},
    "nncf": {"runtimes"},
    "supervision": {"tasks"},
    "starlette": {"serving"},
    "uvicorn": {"serving"},
    "prometheus_client": {"serving"},
    "ray": {"serving", "bulk"},
    "pyarrow": {"bulk"},
    "fsspec": {"bulk"},
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def floor(name: str) -> int:
    return len(FLOORS) if name in DOOR else FLOORS.index(name)


@cache
def imports(path: Path) -> set[str]:
    """Dotted names that a module imports; those under TYPE_CHECKING do not count."""
    tree = ast.parse(path.read_text())
    hidden = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
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


def test_the_house_is_a_door_and_fourteen_rooms():
    assert {room(path) for path in modules()} == {*FLOORS, *DOOR}
    assert len(FLOORS) == 14


def test_the_map_in_contributing_is_this_one():
    text = (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    floors = {
        int(number): name for number, name in re.findall(r"^\| (\d+) \| `(\w+)` \|", text, re.MULTILINE)
    }
    assert [floors[number] for number in sorted(floors)] == FLOORS


def test_imports_go_down_only():
    up = [(path, other) for path in modules() for other in own_rooms(path) - {room(path)}
          if floor(other) >= floor(room(path))]  # fmt: skip
    assert not up


def test_a_task_knows_only_the_lower_rooms_and_itself():
    for path in (PACKAGE / "tasks").rglob("*.py"):
        assert own_rooms(path) - {"tasks"} <= TASK_MAY_IMPORT, path
        folder, *below = path.relative_to(PACKAGE / "tasks").parts
        inside = {n.split(".")[2] for n in imports(path) if n.startswith("ebjr_det.tasks.")}
        assert not below or inside <= {folder, *SHARED}, f"{path}: tasks do not know each other"


def test_the_core_imports_nothing_of_ours_and_no_model_no_data_and_no_metric():
    for path in (PACKAGE / "core").rglob("*.py"):
        assert own_rooms(path) <= {"core"}, path
        assert not {imported.split(".")[0] for imported in imports(path)} & HEAVY, path


def test_heavy_libraries_stay_in_the_rooms_that_need_them():
    strangers = [(path, name) for path in modules() for name in imports(path)
                 if room(path) not in HEAVY_HOMES.get(name.split(".")[0], {room(path)})]  # fmt: skip
    assert not strangers


def test_one_file_of_a_room_imports_ray():
    importers = [path.name for path in modules() if any(n.split(".")[0] == "ray" for n in imports(path))]
    assert importers == ["on_ray.py", "cluster.py"]


def test_the_front_door_and_help_load_no_heavy_library():
    code = (
        "import sys, ebjr_det, ebjr_det.cli as c, ebjr_det.cli.exits as e\n"
        "e.run_safely(lambda: c.cli(['--help'], standalone_mode=False))\n"
        f"print(sorted({HEAVY | {'numpy', 'pydantic'}!r} & set(sys.modules)), file=sys.stderr)"
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
                assert not decodes or path == PACKAGE / "io" / "pictures.py", (path, node.lineno)


def test_traffic_could_be_deleted_with_its_verb():
    own = ("evaluation/traffic/", "reporting/traffic/")
    importers = {
        path.relative_to(PACKAGE).as_posix()
        for path in modules()
        if any(name.startswith("ebjr_det.evaluation.traffic") for name in imports(path))
    }
    assert {path for path in importers if not path.startswith(own)} == {"api/traffic.py"}
