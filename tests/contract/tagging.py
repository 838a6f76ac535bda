"""A task of one's own in one file: pictures with several labels each, one sigmoid a label.

Made-up pictures are an index and true tags; a tagger reads them with noise. All of it goes through the public
contract alone.
"""

from types import SimpleNamespace

import numpy as np
from pydantic import Field

from ebjr_det import Logits, Output
from ebjr_det.config import EvaluateConfig, ModelSection
from ebjr_det.config.sections import BaseSection
from ebjr_det.tasks.contract import TaskPlugin
from ebjr_det.tasks.image_mean import ImageMean

TAGS = ("sky", "road", "tree", "dog")


class Tags:
    """The data set: picture and target are the same truth values."""

    class_names, skip_unreadable = TAGS, False

    def __init__(self, images):
        self.truth = np.random.default_rng(0).random((images, len(TAGS))) < 0.4
        self.image_ids = [f"picture-{index}" for index in range(images)]

    def __len__(self):
        return len(self.image_ids)

    def load(self, index):
        return index, self.truth[index]

    def target(self, index):
        return self.truth[index]


class Tagger:
    """A model: tags as logits, with noise that depends on the picture alone."""

    def __init__(self, name, noise):
        self.name, self.noise = name, noise

    def preprocess(self, picture):
        index, truth = picture
        noise = np.random.default_rng([index, len(self.name)]).normal(0, self.noise, len(TAGS))
        return np.where(truth, 2.0, -2.0) + noise

    def __call__(self, inputs):
        logits = np.stack(inputs)
        return Output(list(logits > 0), Logits.one_row(logits))


class RightTags(ImageMean):
    """Judged by the share of tags that are right."""

    name, columns, mean = "tagging:Tagging", {"right_tags": "share", "all_right": "all"}, False

    def match(self, predictions, targets):
        right = np.stack(predictions) == np.stack(targets)
        return {"share": right.mean(axis=1), "all": right.all(axis=1)}


class ImagesSection(BaseSection):
    images: int = Field(ge=1)


class TaggerSection(ModelSection):
    noise: float = 0.0


class TaggingConfig(EvaluateConfig):
    data: ImagesSection
    student: TaggerSection
    teacher: TaggerSection


class Tagging(TaskPlugin):
    name, evaluate_config, judge = "tagging:Tagging", TaggingConfig, RightTags
    data = SimpleNamespace(build_data=Tags, build_named=Tags, collate=np.stack)
    models = SimpleNamespace(build_model=lambda data, arch, *, noise, **_: Tagger(arch, noise))
