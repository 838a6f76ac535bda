"""The check's JSON as the tables of the page of benchmarks.

python eval/benchmarks/gpu/table.py FILE.json
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SIZES = (1, 8, 32)
PLACE = " on the device"


def networks(rows: dict[str, Any]) -> Iterator[str]:
    """Milliseconds a batch from the GPU's memory, and over those of eager torch."""
    yield "| network | runtime | " + " | ".join(f"ms, batch {size} | over eager" for size in SIZES) + " |"
    yield "|-|-|" + "-:|-:|" * len(SIZES)
    for name in ("d0", "d4"):
        listed = [key.split(", ", 2)[2] for key in rows if key.startswith(f"{name}, batch ")]
        for runtime in dict.fromkeys(listed):
            found = [rows.get(f"{name}, batch {size}, {runtime}", {}) for size in SIZES]
            cells = [
                f"{one[f'ms{PLACE}']['median']:.2f} | {told(one.get(f'over_eager{PLACE}'))}"
                if f"ms{PLACE}" in one
                else "- | -"
                for one in found
            ]
            if set(cells) != {"- | -"}:
                yield f"| {name.upper()} | {runtime} | " + " | ".join(cells) + " |"


def told(ratio: dict[str, Any] | None) -> str:
    """A ratio with its interval, where it has one."""
    if ratio is None:
        return "1"
    value = ratio.get("value", ratio.get("median"))
    ends = "" if ratio["low"] is None else f" [{ratio['low']:.2f}, {ratio['high']:.2f}]"
    return f"{value:.2f}{ends}"


def pair(rows: dict[str, Any]) -> Iterator[str]:
    """Milliseconds a picture, over D4 alone and over student + p x teacher."""
    yield "| runtime, batch | subject | deferred | ms a picture | over D4 alone | over its parts |"
    yield "|-|-|-:|-:|-:|-:|"
    for title, row in rows.items():
        for name, one in row.items() if "student" in row else ():
            rate = f"{100 * one['deferral_rate']:.0f} %" if "deferral_rate" in one else "-"
            parts = told(one["over_student_plus_p_teacher"]) if "deferral_rate" in one else "-"
            cells = [title, name, rate, f"{one['mean_ms']:.2f}", told(one["over_teacher"]), parts]
            yield f"| {' | '.join(cells)} |"
    for title, row in rows.items():
        for way, one in row.get("ways", {}).items():
            yield (
                f"| {title} | {way} | {100 * row['deferral_rate']:.0f} % | "
                f"{1e3 / one['pictures_per_s']:.2f} | {told(one['over_teacher_alone'])} | - |"
            )


def joules(rows: dict[str, Any]) -> Iterator[str]:
    """Joules a picture of the whole card."""
    yield "| runtime | " + " | ".join(subjects := ["student", "teacher", "joint 30 %"]) + " |"
    yield "|-|" + "-:|" * len(subjects)
    for runtime, row in rows.items():
        if "student" in row:
            yield f"| {runtime} | " + " | ".join(f"{row[name]['median']:.2f}" for name in subjects) + " |"


def memory(rows: dict[str, Any]) -> Iterator[str]:
    """Peaks of `predict`."""
    yield "| | peak MiB after 500 | at the end | ratio | GPU MiB after 500 | at the end | pictures a second |"
    yield "|-|-:|-:|-:|-:|-:|-:|"
    for title, row in rows.items():
        if "ratio" in row:
            gpu = [
                f"{row[key]:.0f}" if key in row else "-" for key in ("gpu_mib_after_500", "gpu_mib_at_end")
            ]
            peaks = f"{row['peak_mib_after_500']:.0f} | {row['peak_mib_at_end']:.0f} | {row['ratio']:.3f}"
            yield f"| {title} | {peaks} | {' | '.join(gpu)} | {row['pictures_per_second']:.0f} |"


def main() -> None:
    """Print each."""
    sections = json.loads(Path(sys.argv[1]).read_text())["sections"]
    timed = {
        key: row
        for name, part in sections.items()
        if name == "networks" or ":" in name
        for key, row in part["rows"].items()
    }
    print(*networks(timed), sep="\n", end="\n\n")
    for name, table in (("pair", pair), ("joules", joules), ("memory", memory)):
        if name in sections:
            print(*table(sections[name]["rows"]), sep="\n", end="\n\n")


if __name__ == "__main__":
    main()
