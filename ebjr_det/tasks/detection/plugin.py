"""The detection task: a picture's answer is a set of boxes with classes and scores."""

from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ebjr_det.tasks import contract
from ebjr_det.tasks.detection import settings
from ebjr_det.tasks.routing import Routing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from ebjr_det.core.router import RouterDecision
    from ebjr_det.core.types import Output, PairedRun
    from ebjr_det.io.memory import Source
    from ebjr_det.tasks.detection.metric import AveragePrecision, Target


RESULTS = (
    "Results: JSON of COCO, Ultralytics, mmdetection or FiftyOne, or a folder of YOLO's or VOC's text files."
)


class Detection(contract.TaskPlugin):
    """Pictures with annotated objects, judged by COCO's average precision."""

    name = "detection"
    evaluate_config = settings.DetectionConfig
    train_config = settings.DetectionTrainConfig
    specialize_config = settings.SpecializeDetectorConfig
    bootstrap = 200

    replay_inputs = "two detectors' result files, and the ground truth where there is one"
    replay_files = MappingProxyType(
        {
            "annotations": contract.FileOption(
                "--annotations",
                "Ground truth: COCO's .json or .json.gz, YOLO's data.yaml, VOC's folder. Without it all "
                "qualities are estimated from the teacher's boxes.",
                optional=True,
            ),
            "student": contract.FileOption("--student", RESULTS),
            "teacher": contract.FileOption("--teacher", RESULTS),
            "pictures": contract.FileOption(
                "--pictures",
                "In place of annotations: such a set of which objects are not read.",
                optional=True,
            ),
        }
    )
    replay_options = MappingProxyType(
        {
            "other_at": contract.TaskOption(
                "--other-at", float, "Score of a box of other that hands a picture on.", ("replay",)
            ),
            "lenient": contract.TaskOption(
                "--lenient", bool, "Leave out detections of images that the ground truth lacks."
            ),
            "split": contract.TaskOption(
                "--split", str, "Split of a data.yaml or of VOC's lists.", metavar="train|val|test"
            ),
            "first_pixel": contract.TaskOption(
                "--first-pixel",
                int,
                "Of VOC's boxes: 1, the default, or 0.",
                metavar="0|1",
            ),
            "class_ids": contract.TaskOption(
                "--class-ids",
                str,
                "What class numbers in results are, where they can be several: ids of the annotated classes, "
                "their places, COCO's ids, or places among the names of a data.yaml.",
                metavar="ids|from-0|from-1|coco-91|[from-1:]FILE",
            ),
            "image_ids": contract.TaskOption(
                "--image-ids",
                str,
                "What image numbers in results are: ids, the default, or the numbers in names of files.",
                metavar="ids|files",
            ),
        }
    )

    def judge(self) -> "AveragePrecision":
        """COCO's average precision."""
        from ebjr_det.tasks.detection.metric import AveragePrecision

        return AveragePrecision()

    @property
    def data(self) -> contract.Data:
        """COCO's format, Open Images, scenes of digits."""
        from ebjr_det.tasks.detection import data

        return data

    @property
    def models(self) -> contract.Models:
        """effdet, torchvision, callables."""
        from ebjr_det.tasks.detection import model

        return model

    @property
    def routing(self) -> Routing:
        """Scores of boxes, and a forest on classes of pictures."""
        from ebjr_det.tasks.detection.router import DetectionRouting

        return DetectionRouting()

    @property
    def replay(self) -> contract.Replay:
        """COCO result files."""
        from ebjr_det.tasks.detection import replay

        return replay

    @property
    def forms(self) -> contract.Forms:
        """COCO, YOLO, VOC, Ultralytics."""
        from ebjr_det.tasks.detection.formats import convert

        return convert

    @property
    def show(self) -> contract.Show:
        """Boxes on the picture."""
        from ebjr_det.tasks.detection import show

        return show

    @property
    def served(self) -> contract.Served:
        """A network that gives logits and offsets of anchors."""
        from ebjr_det.tasks.detection import served

        return served

    @property
    def tensors(self) -> contract.Tensors:
        """Boxes, and how many are whose."""
        from ebjr_det.tasks.detection import tensors

        return tensors

    @property
    def popular(self) -> contract.PopularClasses:
        """Boxes of popular classes and of "other"."""
        from ebjr_det.tasks.detection import popular

        return popular

    @property
    def training(self) -> contract.Training:
        """Effdet's loss and distillation."""
        from ebjr_det.tasks.detection import train

        return train

    def class_counts(self, data: Any) -> "NDArray[np.intp]":
        """Annotated objects of each class."""
        from ebjr_det.tasks.detection.popular import class_counts

        return class_counts(data)

    def write_artifacts(
        self, folder: Path, data: Any, run: "PairedRun", reported: "PairedRun", decision: "RouterDecision",
        defer: "NDArray[np.bool_]",
    ) -> None:  # fmt: skip
        """COCO result files and a gallery."""
        from ebjr_det.tasks.detection.artifacts import write_results_of

        write_results_of(folder, data, run, defer)
        super().write_artifacts(folder, data, run, reported, decision, defer)

    def replay_pictures(self, files: "Mapping[str, Source]", folder: Path, image_ids: "Sequence[str]") -> Any:
        """Pictures that the annotations name."""
        from ebjr_det.tasks.detection.replay_pictures import pictures_of

        return pictures_of(files, folder, image_ids)

    def write_gallery(
        self, folder: Path, data: Any, reported: "PairedRun", decision: "RouterDecision"
    ) -> None:
        """Objects and both models' boxes side by side."""
        from ebjr_det.tasks.detection.artifacts import write_gallery

        write_gallery(folder, data, reported, decision)

    def pseudo_targets(
        self, student: "Output", teacher: "Output", classes: int, image_ids: "Sequence[str]"
    ) -> "list[Target]":
        """Objects drawn from the teacher's boxes."""
        from ebjr_det.tasks.detection import pseudo

        return pseudo.targets(student, teacher, classes, image_ids)
