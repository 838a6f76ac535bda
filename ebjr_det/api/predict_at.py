"""`predict` at a server: its answers to pictures of one's own, drawn and written here."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

from ebjr_det.api.predict import (
    IMAGES,
    PICTURES,
    RESULTS,
    Copies,
    PredictResult,
    check_any,
    check_apart,
    earlier_in,
    json_list,
    say_left_out,
    spread,
)
from ebjr_det.api.space import bytes_of_copies
from ebjr_det.core.errors import InvalidInput
from ebjr_det.inference.stream_plan import Answer
from ebjr_det.io.files import check_space, replaced_folder, writable_folder
from ebjr_det.io.lettering import check_letters
from ebjr_det.io.load import Meter
from ebjr_det.io.pictures import find_pictures, open_picture, picture_warnings
from ebjr_det.serving.client import Client
from ebjr_det.tasks import load_task
from ebjr_det.tasks.contract import TaskPlugin

if TYPE_CHECKING:
    from PIL.Image import Image


def predict_at(
    url: str,
    pictures: Sequence[str],
    out: str | Path,
    *,
    threshold: float | None = None,
    rate: float | None = None,
    least_score: float = 0.3,
) -> PredictResult:
    """Have a server answer pictures, one a request; the folder is that of `predict`.

    Args:
        url: of a server that `serve` started, as `http://127.0.0.1:8000`.
        threshold, rate: of these requests, instead of the server's threshold.

    Raises:
        InvalidInput: no server, no picture, or what the server refuses of all pictures.
    """
    check_letters()
    client, files, out = Client(url), find_pictures(pictures), Path(out)
    check_apart(files, out)
    check_space(out, bytes_of_copies(spread(files, 8), len(files)))
    facts = client.describe().get("parameters", {})
    if "class_ids" not in facts:
        raise InvalidInput(f"Expected a server of ebjr-det at `{url}`, got another one.")
    plugin, rule = load_task(facts["task"]), _rule(threshold, rate)
    named = plugin.served.name_classes(dict(zip(facts["class_ids"], facts["classes"], strict=True)))
    with replaced_folder(out, (RESULTS, PICTURES, IMAGES), "predict", earlier_in(out)) as folder:
        drawn_to, shown = writable_folder(folder / PICTURES), np.nan
        copies = Copies(drawn_to, files, plugin.show, named, facts["score"], shown, least_score)
        meter = Meter()
        count, deferred, used = _answer_all(client, plugin, copies, rule, folder)
        load = meter.lap()
    finite = used if np.isfinite(used) else None
    return PredictResult(
        count, len(files) - count, deferred, deferred / count, facts["score"], finite,
        load.seconds, count / load.seconds, load, str(out),
    )  # fmt: skip


def _rule(threshold: float | None, rate: float | None) -> dict[str, float | str]:
    """The parameters of every request; an infinite threshold has no word in JSON."""
    if threshold is None:
        return {} if rate is None else {"deferral_rate": rate}
    if np.isinf(threshold):
        return {"force": "student" if threshold > 0 else "teacher"}
    return {"threshold": threshold}


def _answer_all(
    client: Client, plugin: TaskPlugin, copies: Copies, rule: dict[str, Any], folder: Path
) -> tuple[int, int, float]:
    """How many pictures were answered, how many by the teacher, and the last threshold."""
    count, deferred, threshold = 0, 0, float("nan")
    with (
        picture_warnings(),
        json_list(folder / RESULTS) as add_result,
        json_list(folder / IMAGES) as add_image,
    ):
        for index, path in enumerate(tqdm(copies.files, unit="img", desc="predicting")):
            try:
                picture: Image = open_picture(path)
            except InvalidInput as error:
                say_left_out(index, error)
                continue
            values = client.infer([path], **rule)
            (prediction,) = plugin.tensors.from_tensors(values)
            threshold, by_teacher = float(values["threshold"][0]), values["answered_by"][0] == "teacher"
            answer = Answer(index, picture, prediction, float(values["deferral_score"][0]), by_teacher)
            copies = replace(copies, threshold=threshold)
            copies.write(answer)
            for entry in copies.show.to_entries(prediction, index + 1, copies.named):
                add_result(entry)
            add_image(copies.facts(answer))
            count, deferred = count + 1, deferred + by_teacher
        check_any(count, copies.files)
    return count, deferred, threshold
