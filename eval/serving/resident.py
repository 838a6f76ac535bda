"""Does the server's memory grow?

    python eval/serving/resident.py FOLDER [--requests 50000]

FOLDER is an export of a pair of digits with a fitted router. `memory_mib` is the server's resident memory
after 2,000 and after so many requests of 8 clients at 30 % deferral, a picture each. Prints one JSON object.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from time import perf_counter

from latency import pictures

import ebjr_det

FIRST = 2000
"""Requests before the first look, by which everything is loaded."""


def resident_mib(process: int) -> float:
    """Resident memory of a process. Source: proc(5)."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


def closed(url: str, contents: list[bytes], count: int, clients: int = 8) -> float:
    """Pictures a second of so many clients that each wait for an answer."""

    def ask() -> None:
        client = ebjr_det.Client(url)
        for index in range(count // clients):
            client.infer([contents[index % len(contents)]], deferral_rate=0.3)

    threads, started = [threading.Thread(target=ask) for _ in range(clients)], perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return count // clients * clients / (perf_counter() - started)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--requests", type=int, default=50_000)
    args = parser.parse_args()
    contents = pictures(200)
    result: dict[str, object] = {}
    command = [sys.executable, "-u", "-m", "ebjr_det", "serve", args.folder, "--port", "0", "--no-access-log"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().split()[-1]
            closed(url, contents, FIRST)
            memory = {str(FIRST): resident_mib(server.pid)}
            rate = closed(url, contents, args.requests - FIRST)
            memory[str(args.requests)] = resident_mib(server.pid)
            result |= {"memory_mib": memory, "pictures_per_second": round(rate, 1)}
            result["load_average"] = os.getloadavg()[0]
        finally:
            server.terminate()
            server.wait()
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
