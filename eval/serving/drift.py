"""How soon the drift alarm is raised by pictures of another kind, whether by the pair's own; and a shadow.

    python eval/serving/drift.py FOLDER --coco DIR [--own 20000] [--others 1000]

FOLDER is an export of the pair of digits with a fitted router, DIR a folder of photographs. The server is a
process of its own. Test digits are drawn at random, with replacement, 64 a request, and the alarm is read
after each; photographs come one a request until the alarm. `shadow` is how much student and teacher agree on
600 test digits, by decile of the score at the router's fit. Prints one JSON object.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from senders import digits
from tiers import Server, metric

import ebjr_det


def own(folder: str, count: int) -> dict[str, Any]:
    """The pair's own pictures."""
    server, contents, generator = Server(folder), digits(600), np.random.default_rng(0)
    client, distances, alarms, done = ebjr_det.Client(server.url), list[float](), 0, 0
    while done < count:
        chosen = generator.integers(len(contents), size=64)
        client.infer([contents[index] for index in chosen], force="student")
        done += 64
        alarms += int(metric(server.url, "ebjr_drift_alarm"))
        distances.append(metric(server.url, "ebjr_drift_distance"))
    server.end()
    return {"pictures": done, "alarms": alarms, "largest_distance": round(max(distances), 3)}


def others(folder: str, photographs: Path, count: int) -> dict[str, Any]:
    """Photographs."""
    server, alarm = Server(folder), None
    client, distance = ebjr_det.Client(server.url), 0.0
    for index, path in enumerate(sorted(photographs.glob("*.jpg"))[:count]):
        client.infer([path], force="student")
        if metric(server.url, "ebjr_drift_alarm"):
            alarm, distance = index + 1, metric(server.url, "ebjr_drift_distance")
            break
    server.end()
    return {"alarm_after": alarm, "distance": round(distance, 3)}


def shadow(folder: str) -> dict[str, Any]:
    """Test digits that the student keeps, one a request, shown to the teacher too wherever it is idle."""
    server = Server(folder, "--shadow", "1")
    client = ebjr_det.Client(server.url)
    for content in digits(600):
        client.infer([content], force="student")
    names = ("pictures", "agreement")
    columns = {
        name: [metric(server.url, f'ebjr_shadow_{name}{{decile="{decile}"}}') for decile in range(10)]
        for name in names
    }
    server.end()
    return columns


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--coco", type=Path, required=True)
    parser.add_argument("--own", type=int, default=20_000)
    parser.add_argument("--others", type=int, default=1000)
    args = parser.parse_args()
    result = {"own": own(args.folder, args.own), "coco": others(args.folder, args.coco, args.others)}
    result["shadow"] = shadow(args.folder)
    print(json.dumps(result | {"load_average": os.getloadavg()[0]}, indent=2))


if __name__ == "__main__":
    main()
