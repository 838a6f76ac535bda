"""Published classifiers: their real outputs are compared with the data's classes, by name."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.data import ImageNetInfo
from torchvision.models import MobileNet_V3_Small_Weights, get_model

from ebjr_det.core.errors import CheckpointError, ConfigError
from ebjr_det.tasks.classification.data import ImageSet
from ebjr_det.tasks.classification.model import build_model

IDS = tuple(ImageNetInfo().label_names())
WORDS = tuple(text.split(", ")[0] for text in ImageNetInfo().label_descriptions())
TORCHVISION = tuple(MobileNet_V3_Small_Weights.DEFAULT.meta["categories"])
NUMBERS = tuple(f"{number:04d}" for number in range(1000))
SMALL = {"timm": "timm/test_efficientnet.r160_in1k", "torchvision": "torchvision/mobilenet_v3_small"}


def images(class_names):
    picture = Image.fromarray(np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8))
    return ImageSet(("a",), np.zeros(1, np.intp), tuple(class_names), lambda _: picture)


@pytest.fixture(autouse=True)
def published(monkeypatch):
    """Both libraries' own weights without a download, of which they tell on stdout as torch does."""

    def tell(*_, **__):
        print("Downloading: weights")

    def state(self, *_, **__):
        tell()
        return get_model("mobilenet_v3_small", weights=None).state_dict()

    monkeypatch.setattr(MobileNet_V3_Small_Weights, "get_state_dict", state)
    monkeypatch.setattr("timm.models._builder.load_pretrained", tell)


@pytest.mark.parametrize("library", SMALL)
@pytest.mark.parametrize(
    "class_names", [IDS, WORDS, TORCHVISION, NUMBERS], ids=["ids", "words", "tv", "0007"]
)
def test_imagenet_s_classes_in_its_order_are_taken_by_any_of_their_names(library, class_names, capsys):
    model = build_model(images(class_names), SMALL[library], pretrained=True)
    assert model([model.preprocess(images(class_names).load(0))]).logits.values.shape == (1, 1, 1000)
    assert capsys.readouterr().out == "", "stdout is for results"


SWAPPED = (IDS[1], IDS[0], *IDS[2:])


@pytest.mark.parametrize("library", SMALL)
@pytest.mark.parametrize(
    ("class_names", "says"),
    [
        (sorted({*WORDS, "crane bird", "maillot one"}), "order of the outputs"),
        (SWAPPED, "got `n01443537` as number 0, which is output 1"),
        (sorted(map(str, range(1000))), "got `10` as number 2, which is output 10"),
        ([f"brand {k}" for k in range(1000)], "the published .* got `brand 0`"),
    ],
)  # fmt: skip
def test_other_classes_than_the_published_ones_are_one_line(library, class_names, says):
    assert len(class_names) == 1000
    with pytest.raises(ConfigError, match=says) as caught:
        build_model(images(class_names), SMALL[library], pretrained=True)
    assert len(str(caught.value).splitlines()) == 1


def test_a_few_unknown_words_among_many_known_ones_are_told(capsys):
    build_model(images((*IDS[:990], *(f"mine {k}" for k in range(10)))), SMALL["timm"], pretrained=True)
    assert capsys.readouterr().err.endswith(
        "10 classes of the data go by names that `test_efficientnet.r160_in1k` does not have; "
        "they are taken in its order.\n"
    )


def make(num_classes, **options):
    return timm.create_model("test_efficientnet.r160_in1k", num_classes=num_classes, **options)


def test_a_published_network_with_a_fresh_head_is_one_line_unless_it_is_meant():
    ten = images("0123456789")
    own = {"num_classes": 10}
    for arch, settings in (
        (SMALL["timm"], {"pretrained": True, "options": own}),
        (SMALL["torchvision"], {"pretrained": True, "options": own}),
        (f"{__name__}:make", {"options": {"pretrained": True}}),
    ):
        with pytest.raises(ConfigError, match="1000") as caught:
            build_model(ten, arch, **settings)
        assert len(str(caught.value).splitlines()) == 1
    build_model(ten, SMALL["timm"], pretrained=True, random_weights=True, options=own)
    build_model(ten, f"{__name__}:make", random_weights=True, options={"pretrained": True})


def test_a_callable_s_published_network_is_compared_too():
    build_model(images(IDS), f"{__name__}:make", options={"pretrained": True})
    with pytest.raises(ConfigError, match="order of the outputs"):
        build_model(images(SWAPPED), f"{__name__}:make", options={"pretrained": True})


def test_a_count_alone_is_still_compared_first():
    with pytest.raises(ConfigError, match="to give 10 logits, one a class of the data, got 1000"):
        build_model(images(IDS[:10]), SMALL["timm"], pretrained=True)


def test_a_checkpoint_of_unknown_origin_is_told_where_imagenet_s_order_is_another(tmp_path, capsys):
    torch.manual_seed(0)
    save_file(make(1000).state_dict(), tmp_path / "w.safetensors")
    weights = {"checkpoint": str(tmp_path / "w.safetensors")}
    for class_names in (IDS, [f"brand {k}" for k in range(1000)]):
        build_model(images(class_names), SMALL["timm"], **weights)
        assert capsys.readouterr().err == ""
    build_model(images(SWAPPED), SMALL["timm"], **weights)
    assert "ImageNet's classes in another order" in capsys.readouterr().err


def test_a_checkpoint_of_this_project_tells_its_classes_wherever_it_is_read(tmp_path):
    save_file(make(2).state_dict(), tmp_path / "w.safetensors", {"classes": '["a", "b"]'})
    weights = {"checkpoint": str(tmp_path / "w.safetensors")}
    build_model(images("ab"), SMALL["timm"], **weights)
    with pytest.raises(CheckpointError, match=r"Expected weights for 2 classes \(b, a\)"):
        build_model(images("ba"), SMALL["timm"], **weights)
