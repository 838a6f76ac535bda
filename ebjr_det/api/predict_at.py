"""`predict` at a server: its answers to pictures of one's own, drawn and written here."""

from collections import Counter
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ebjr_det.api.predict import Copies, PredictResult, Work, say_left_out, write_answers
from ebjr_det.core.errors import InvalidInput
from ebjr_det.inference.stream_plan import Answer
from ebjr_det.io.lettering import check_letters
from ebjr_det.io.notes import say
from ebjr_det.io.picture_folders import find_pictures
from ebjr_det.io.pictures import open_picture
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
    client, files = Client(url), find_pictures(pictures)
    facts = client.describe().get("parameters", {})
    if "class_ids" not in facts:
        raise InvalidInput(f"Expected a server of ebjr-det at `{url}`, got another one.")
    plugin, rule = load_task(facts["task"]), _rule(threshold, rate)
    named = plugin.served.name_classes(dict(zip(facts["class_ids"], facts["classes"], strict=True)))

    def at_work(drawn_to: Path) -> Work:
        copies = Copies(drawn_to, files, plugin.show, named, facts["score"], np.nan, least_score)
        return copies, _answers(client, plugin, copies, rule, degraded)

    degraded = Counter[str]()
    result = write_answers(files, Path(out), at_work)
    if degraded:
        reasons = ", ".join(f"{reason} {count}" for reason, count in degraded.items())
        say(f"Note: {degraded.total()} deferred pictures have the student's answer ({reasons}).")
    return result


def _rule(threshold: float | None, rate: float | None) -> dict[str, float | str]:
    """The parameters of every request; an infinite threshold has no word in JSON."""
    if threshold is None:
        return {} if rate is None else {"deferral_rate": rate}
    if np.isinf(threshold):
        return {"force": "student" if threshold > 0 else "teacher"}
    return {"threshold": threshold}


def _answers(
    client: Client, plugin: TaskPlugin, copies: Copies, rule: dict[str, float | str], degraded: Counter[str]
) -> "Generator[Answer[int, Image]]":
    """The server's answers in the order of the pictures, each with its threshold.

    Args:
        degraded: counts why deferred pictures have the student's answer.
    """
    for index, path in enumerate(copies.files):
        try:
            picture = open_picture(path)
        except InvalidInput as error:
            say_left_out(index, error)
            continue
        values = client.infer([path], **rule)
        (prediction,) = plugin.tensors.from_tensors(values)
        degraded.update(filter(None, values["degraded"]))
        copies.threshold, by_teacher = float(values["threshold"][0]), values["answered_by"][0] == "teacher"
        yield Answer(index, picture, prediction, float(values["deferral_score"][0]), by_teacher)
