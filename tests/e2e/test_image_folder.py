"""ImageNet-style pairs by name: timm, torchvision and callables on a folder of real picture files."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from common import ROOT
from PIL import Image
from torchvision.models.densenet import DenseNet

from ebjr_det.cli import cli
from ebjr_det.cli.exits import run_safely
from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.runtimes.macs import count_macs
from ebjr_det.tasks.classification.data import build_data
from ebjr_det.tasks.classification.model import build_model

CLASSES = ("n01", "n02", "n03")
IMAGES = 2


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """val/<class>/<image>, colour noise of several sizes, one of them grey."""
    folder = tmp_path_factory.mktemp("imagenet")
    rng = np.random.default_rng(0)
    for name in CLASSES:
        (folder / "val" / name).mkdir(parents=True)
        for index in range(IMAGES):
            pixels = rng.integers(256, size=(250 + 30 * index, 300, 3), dtype=np.uint8)
            image = Image.fromarray(pixels).convert("L" if index else "RGB")
            image.save(folder / "val" / name / f"{index}.jpg")
    return folder


def network(arch: str) -> dict:
    """Untrained, and said so where the builder brings no weights of its own."""
    return {"arch": arch} if ":" in arch else {"arch": arch, "random_weights": True}


def evaluate(tmp_path: Path, root: Path, student: str, teacher: str, *extra: str) -> int:
    path = tmp_path / "pair.yaml"
    data = {"dataset": "image_folder", "root": str(root), "split": "val"}
    path.write_text(json.dumps({"data": data, "student": network(student), "teacher": network(teacher)}))
    quick = ["--set", "run.bootstrap=5", "--set", "latency.measure=false"]
    command = ["evaluate", str(path), *quick, "--batch-size", "4", "--out", str(tmp_path / "out"), *extra]
    return run_safely(lambda: cli([*command, "--json"], standalone_mode=False))


def test_a_timm_and_a_torchvision_model_by_name(root: Path, tmp_path: Path, capsys):
    assert evaluate(tmp_path, root, "timm/resnet18", "torchvision/resnet34") == 0
    got = json.loads(capsys.readouterr().out)
    assert got["images"] == len(CLASSES) * IMAGES
    assert got["student"]["macs"] == pytest.approx(1.814e9, rel=2e-3)  # timm's and torchvision's tables
    assert got["teacher"]["macs"] == pytest.approx(3.664e9, rel=2e-3)
    assert got["student"]["parameters"] == 11_689_512 - 1000 * 513 + len(CLASSES) * 513


def test_a_callable_of_any_package(root: Path, tmp_path: Path, capsys):
    shape = "student.preprocessing={resize: 64, crop: 64, mean: [0, 0, 0], std: [1, 1, 1]}"
    arch = "torchvision.models:squeezenet1_1"
    assert (
        evaluate(tmp_path, root, arch, arch, "--set", shape, "--set", shape.replace("student", "teacher"))
        == 0
    )
    got = json.loads(capsys.readouterr().out)
    assert got["student"]["macs"] == got["teacher"]["macs"] > 0


def test_layers_outside_ebjrs_convention_leave_its_flops_out(root: Path, tmp_path: Path, capsys):
    assert evaluate(tmp_path, root, "timm/mobilenetv3_small_050", "timm/test_resnet") == 0
    got = json.loads(capsys.readouterr().out)
    assert "ebjr_flops" not in got["student"]
    assert got["joint"]["ebjr_flops"] is None


def test_library_models_use_the_librarys_own_evaluation_transform(root: Path):
    import timm
    from timm.data import create_transform, resolve_model_data_config
    from torchvision import models

    data = build_data("image_folder", root=str(root), split="val")
    image = data.load(0)
    ours = build_model(data, "timm/resnet18", random_weights=True).preprocess(image)
    config = resolve_model_data_config(timm.create_model("resnet18"))
    assert config["interpolation"] == "bicubic"
    assert torch.equal(ours, create_transform(**config, is_training=False)(image))
    ours = build_model(data, "torchvision/resnet18", random_weights=True).preprocess(image)
    assert torch.equal(ours, models.ResNet18_Weights.DEFAULT.transforms()(image))


def test_attention_is_counted_in_full(root: Path):
    """Published multiply-adds of ViT-B/16 at 224: 17.56 G in torchvision's table (17.58 with the norms)."""
    data = build_data("image_folder", root=str(root), split="val")
    for arch, macs in (("torchvision/vit_b_16", 17.56e9), ("timm/vit_tiny_patch16_224", 1.254e9)):
        model = build_model(data, arch, random_weights=True)
        image = model.preprocess(data.load(0))
        assert count_macs(lambda: model([image])) == pytest.approx(macs, rel=2e-3)  # noqa: B023


def test_weights_must_be_named(root: Path):
    data = build_data("image_folder", root=str(root), split="val")
    with pytest.raises(ConfigError, match="random_weights"):
        build_model(data, "timm/resnet18")


def test_a_split_that_is_not_there_is_named(root: Path):
    with pytest.raises(InvalidInput, match="vall"):
        build_data("image_folder", root=str(root), split="vall")


def test_a_callable_of_the_current_folder(root: Path, tmp_path: Path, capsys, monkeypatch):
    lines = ["import torchvision", "def small(num_classes):"]
    lines += ["    return torchvision.models.squeezenet1_1(num_classes=num_classes)"]
    code = "\n".join(lines)
    (tmp_path / "my_nets.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    shape = "student.preprocessing={resize: 64, crop: 64, mean: [0, 0, 0], std: [1, 1, 1]}"
    changes = ["--set", shape, "--set", shape.replace("student", "teacher")]
    assert evaluate(tmp_path, root, "my_nets:small", "my_nets:small", *changes) == 0


def test_a_class_count_that_differs_is_named(root: Path, tmp_path: Path, capsys):
    arch = "torchvision.models:resnet18"
    code = evaluate(tmp_path, root, arch, arch, "--set", "student.options={num_classes: 5}")
    assert code == 2
    assert "num_classes" in capsys.readouterr().err


def test_a_broken_picture_is_named_with_loader_processes_too(root: Path, tmp_path: Path, capsys):
    broken = tmp_path / "data" / "val" / "n01"
    broken.mkdir(parents=True)
    good = (root / "val" / "n01" / "0.jpg").read_bytes()
    (broken / "a.jpg").write_bytes(good)
    (broken / "b.jpg").write_bytes(good[: len(good) // 2])
    for workers in ("0", "1"):
        out = ["--workers", workers, "--resume"]
        code = evaluate(tmp_path, tmp_path / "data", "timm/test_resnet", "timm/test_resnet", *out)
        err = capsys.readouterr().err
        assert code == 2
        assert "b.jpg" in err
        assert "Traceback" not in err


def test_pictures_of_several_sizes_are_named_with_the_remedy(root: Path, tmp_path: Path, capsys):
    arch = "torchvision.models:squeezenet1_1"
    for batch, measure in (("4", "false"), ("1", "true")):
        extra = [
            "--batch-size",
            batch,
            "--set",
            f"latency.measure={measure}",
            "--set",
            "latency.batch_size=6",
        ]
        assert evaluate(tmp_path, root, arch, arch, *extra, "--out", str(tmp_path / batch)) == 2
        assert "preprocessing.resize" in capsys.readouterr().err


def test_a_png_with_a_damaged_chunk_is_named(tmp_path: Path):
    (tmp_path / "a").mkdir()
    noise = np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a" / "x.png")
    data = bytearray((tmp_path / "a" / "x.png").read_bytes())
    data[33 + 4 : 33 + 8] = b"\xff\x00\xffx"  # the name of the second chunk: PIL raises SyntaxError
    (tmp_path / "a" / "x.png").write_bytes(data)
    with pytest.raises(InvalidInput, match=r"x\.png"):
        build_data("image_folder", str(tmp_path)).load(0)


def test_the_released_command_takes_imagenet(root: Path, tmp_path: Path, monkeypatch, capsys):
    for name, growth, blocks in (("s", 12, (6, 12, 24, 16)), ("t", 32, (6, 12, 48, 32))):
        with torch.device("meta"):
            network = DenseNet(growth_rate=growth, block_config=blocks, num_classes=len(CLASSES))
        state = {f"module.{key}": torch.zeros(value.shape) for key, value in network.state_dict().items()}
        torch.save({"epoch": 1, "state_dict": state, "best_acc": 0.0}, tmp_path / f"{name}.pth.tar")
    args = "--evaluate --dataset imagenet --arch densenet --depth 121 --growthRate 12 --tarch densenet"
    args += f" --tdepth 201 --tgrowthRate 32 --router_threshold 1.9 --data {root}"
    args += f" --resume {tmp_path / 's.pth.tar'} --tresume {tmp_path / 't.pth.tar'}"
    program = ROOT / "eval" / "ebjr.py"
    monkeypatch.setattr("sys.argv", [str(program), *args.split()])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(program), run_name="__main__")
    told, complaint = capsys.readouterr()
    assert ended.value.code == 0, complaint
    assert f"#Samples: {len(CLASSES) * IMAGES}" in told
    flops = [float(line.split()[-1]) for line in told.splitlines() if line.startswith("FLOPs")]
    # published for 1,000 classes: 11.51 and 86.37; the classifiers of 3 classes cost a little less
    assert flops[0] == pytest.approx(11.51, abs=0.02)
    assert flops[1] == pytest.approx(86.37, abs=0.05)
