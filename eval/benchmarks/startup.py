"""How long until the package is there? `import ebjr_det` and `ebjr-det --help`, beside `python -c pass`.

    python eval/benchmarks/startup.py

Fresh processes in turn; prints the median seconds of each and whether torch was loaded.
"""

import statistics
import subprocess
import sys
from pathlib import Path
from time import perf_counter

from ebjr_det.io.files import to_json

ROUNDS = 15


def main() -> None:
    """Measure and print."""
    commands: dict[str, list[str | Path]] = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "import ebjr_det": [sys.executable, "-c", "import ebjr_det"],
        "ebjr-det --help": [Path(sys.executable).with_name("ebjr-det"), "--help"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, command in commands.items():
            start = perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(perf_counter() - start)
    probe = "import ebjr_det, ebjr_det.cli, sys; print('torch' in sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True, text=True)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    print(to_json({"median_s": medians, "torch_loaded": loaded.stdout.strip() == "True"}))


if __name__ == "__main__":
    main()
