"""Image classifiers of transformers: logits are the library's own, classes are found by name."""

import numpy as np
import pytest
import torch
from tiny_detectors import NAMES, WORDS, pictures, save_classifier, save_transformers

from ebjr_det.core.errors import EbjrError
from ebjr_det.tasks.classification.model import build_model
from ebjr_det.tasks.classification.networks.preprocessing import described

pytest.importorskip("transformers", reason="the extra `transformers` is not installed")


class Labelled:
    """Pictures of so many classes."""

    def __init__(self, names=WORDS):
        self.class_names, self.num_classes = tuple(names), len(names)

    def load(self, index):
        return pictures()[index]


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vit")
    return folder, save_classifier(folder)


def test_logits_are_the_librarys(vit):
    import transformers

    folder, network = vit
    model = build_model(Labelled(), f"transformers/{folder}")
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    inputs = [model.preprocess(image) for image in pictures()]
    wanted = processor(pictures(), return_tensors="pt")["pixel_values"]
    np.testing.assert_array_equal(torch.stack(inputs).numpy(), wanted.numpy())
    assert described(model.preprocess) is not None
    with torch.inference_mode():
        logits = network(pixel_values=wanted).logits.numpy()
    np.testing.assert_array_equal(model(inputs).logits.values[:, 0], logits)
    turned = build_model(Labelled([*NAMES.values()][::-1]), f"transformers/{folder}")
    np.testing.assert_array_equal(turned(inputs).logits.values[:, 0], logits[:, ::-1])


def test_other_classes_and_other_networks_are_refused_in_one_line(vit, tmp_path):
    def refused(match, names=WORDS, reference=vit[0], **settings):
        with pytest.raises(EbjrError, match=match) as error:
            build_model(Labelled(names), f"transformers/{reference}", **settings)
        assert "\n" not in str(error.value)

    refused("the 2 classes of the data, got 6", ["a", "b"])
    strange = ["dog", *[*NAMES.values()][1:]]
    refused("got `dog`. Map them with `class_names`", strange)
    build_model(Labelled(strange), f"transformers/{vit[0]}", class_names={"class 1": "dog"})
    refused(
        "an image classifier as .*, got an object detector", reference=save_transformers("yolos", tmp_path)
    )
