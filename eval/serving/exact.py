"""Answers of a server against those of the pair itself, to the bit; and each of one policy alone."""

import io
import json
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
from PIL import Image
from senders import Replies, closed, digits, encoded, serving

import ebjr_det
from ebjr_det.evaluation.run_folder import load_folder
from ebjr_det.inference.export_file import PAIR, write_pair
from ebjr_det.inference.exported import load_exported
from ebjr_det.io.pictures import as_picture
from ebjr_det.tasks.classification.data import build_data


def predicted(source: str, contents: list[bytes], out: Path, *options: str) -> dict[str, Any]:
    """What `ebjr-det predict` says of pictures, which lie beside the folder that it answers into."""
    pictures = out.parent / "pictures"
    pictures.mkdir(exist_ok=True)
    for index, content in enumerate(contents):
        (pictures / f"{index:05}.png").write_bytes(content)
    command = [sys.executable, "-m", "ebjr_det", "predict", source, str(pictures), "--out", str(out)]
    done = subprocess.run([*command, "--json", *options], capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def exact(folder: str) -> dict[str, object]:
    """1,000 pictures, one a request, against `load` to the bit and against the files of `predict`."""
    contents, pair, differing = digits(1000), ebjr_det.load(folder), 0
    with serving(folder) as (_, url), tempfile.TemporaryDirectory() as place:
        client = ebjr_det.Client(url)
        for content in contents:
            answer = {name: np.asarray(values) for name, values in client.infer([content]).items()}
            expected = pair([Image.open(io.BytesIO(content))])
            differing += not (
                answer["logits"][0].tobytes() == expected.predictions[0].tobytes()
                and answer["deferral_score"].tobytes() == expected.decision.scores.tobytes()
                and tuple(answer["answered_by"]) == expected.answered_by
            )
        for name, source, options in (("server", url, ()), ("here", folder, ("--set", "run.batch_size=1"))):
            predicted(source, contents, Path(place, name), *options)
        written = [files_of(Path(place, name)) for name in ("server", "here")]
    differing_files = sum(written[0].get(name) != content for name, content in written[1].items())
    return {
        "pictures": 1000,
        "differing": differing,
        "files": len(written[1]),
        "files_differing": differing_files,
    }


def curve(run_dir: str, folder: str, points: int = 100) -> dict[str, object]:
    """Thresholds by request against the points of the curve that `evaluate` wrote, over all its pictures."""
    run, analysis = load_folder(Path(run_dir))
    line = json.loads(Path(run_dir, "curve.json").read_text())["curves"][analysis.score]
    data = build_data("digits", split="test")
    index_of = {name: index for index, name in enumerate(data.image_ids)}
    indices = [index_of[name] for name in run.image_ids]
    contents, labels = (
        [encoded(as_picture(data.load(index))) for index in indices],
        np.asarray(data.labels)[indices],
    )
    chosen = np.unique(np.linspace(1, len(line["threshold"]) - 2, points).astype(int)).tolist()
    differing = 0
    with serving(folder) as (_, url):
        client = ebjr_det.Client(url)
        for point in chosen:
            batches = [
                client.infer(contents[start : start + 64], threshold=line["threshold"][point])
                for start in range(0, len(contents), 64)
            ]
            sides = np.concatenate([batch["answered_by"] for batch in batches])
            answers = np.concatenate([batch["label"] for batch in batches])
            reached = (sides == "teacher").mean(), (answers == labels).mean()
            differing += reached != (line["deferral_rate"][point], line["quality"][point])
    return {"pictures": len(contents), "points": len(chosen), "differing": differing}


def load_anew(url: str) -> int:
    """Ask a server to read its pair again; the status of its answer."""
    try:
        with urllib.request.urlopen(f"{url}/v2/repository/models/pair/load", b"{}") as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def reloads(folder: str, count: int = 100, requests: int = 10_000) -> dict[str, object]:
    """Reloads while requests of two pictures come: two policies in turn, each tenth time a damaged file."""
    contents, replies, statuses = digits(2), list[Replies](), list[int]()
    with tempfile.TemporaryDirectory() as place:
        changed = Path(copytree(folder, Path(place, "pair")))
        pair = load_exported(changed).content
        thresholds = pair.threshold, pair.threshold - 0.1
        with serving(str(changed)) as (_, url):
            asking = threading.Thread(target=lambda: replies.append(closed(url, [contents], requests, 4)))
            asking.start()
            for turn in range(count):
                write_pair(pair.model_copy(update={"threshold": thresholds[(turn + 1) % 2]}), changed)
                if turn % 10 == 9:
                    (changed / PAIR).write_bytes((changed / PAIR).read_bytes()[:-9])
                statuses.append(load_anew(url))
            asking.join()
    (reply,) = replies
    mixed = 0
    for answer in reply.answers:
        by_rule = np.where(answer["deferral_score"] > answer["threshold"], "teacher", "student").tolist()
        one_policy = len(set(answer["threshold"].tolist())) == 1 and answer["threshold"][0] in thresholds
        mixed += not (one_policy and by_rule == answer["answered_by"])
    return {
        "requests": requests,
        "answered": len(reply.answers),
        "reloaded": statuses.count(200),
        "damaged_and_refused": statuses.count(400),
        "answers_of_no_one_policy": mixed,
        "policies_seen": len({answer["threshold"][0] for answer in reply.answers}),
    }
