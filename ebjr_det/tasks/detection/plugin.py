"""The detection task: a picture's answer is a set of boxes with classes and scores."""

from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ebjr_det.tasks import contract
from ebjr_det.tasks.detection import settings
from ebjr_det.tasks.folder import FolderPlugin, Part, Parts
from ebjr_det.tasks.routing import Routing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ebjr_det.core.router import RouterDecision
    from ebjr_det.core.types import PairedRun
    from ebjr_det.tasks.detection.metric import AveragePrecision

if TYPE_CHECKING:  # whether the modules are what `FolderPlugin` takes them for
    from ebjr_det.tasks.detection import (  # noqa: I001
        artifacts, data, model, popular, pseudo, replay, served, show, tensors, train,
    )  # fmt: skip
    from ebjr_det.tasks.detection.formats import convert

    PARTS: Parts = (data, model, replay, show, served, tensors, popular, train, artifacts, pseudo)
    FORMS: contract.Forms = convert


RESULTS = (
    "Results: JSON of COCO, Ultralytics, mmdetection or FiftyOne, or a folder of YOLO's or VOC's text files."
)


class Detection(FolderPlugin):
    """Pictures with annotated objects, judged by COCO's average precision."""

    name, folder = "detection", "ebjr_det.tasks.detection"
    evaluate_config = settings.DetectionConfig
    train_config = settings.DetectionTrainConfig
    specialize_config = settings.SpecializeDetectorConfig
    bootstrap = 200
    forms = Part[contract.Forms]("formats.convert")

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
    def routing(self) -> Routing:
        """Scores of boxes, and a forest on classes of pictures."""
        from ebjr_det.tasks.detection.router import DetectionRouting

        return DetectionRouting()

    def write_artifacts(
        self, folder: Path, data: Any, run: "PairedRun", reported: "PairedRun", decision: "RouterDecision",
        defer: "NDArray[np.bool_]",
    ) -> None:  # fmt: skip
        """COCO result files and a gallery."""
        from ebjr_det.tasks.detection.artifacts import write_results_of

        write_results_of(folder, data, run, defer)
        super().write_artifacts(folder, data, run, reported, decision, defer)
