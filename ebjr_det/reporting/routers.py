"""What a fit of routers tried, as a ranked table and as the evidence that its file carries."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml

from ebjr_det.core.types import FloatArray
from ebjr_det.evaluation.bootstrap import METHOD
from ebjr_det.evaluation.report import Report, area_of
from ebjr_det.reporting.notation import NONE, interval_text, number, percent, plural, share
from ebjr_det.reporting.sentences import choice_findings, difference_words, margin_findings
from ebjr_det.reporting.sentences import verdict as pair_verdict
from ebjr_det.reporting.table import Table

PUBLISHED = {0.099: 0.348, 0.172: 0.515, 0.298: 0.697, 0.397: 0.792, 0.514: 0.889, 0.826: 0.975}
"""Deferral rate -> share of the gap between D0 and D4 that EBJR's COCO figure claims (arXiv 2110.10343, read
off the plot); how boxes became a picture's energy is published nowhere."""


@dataclass(frozen=True)
class RouterTrial:
    """Every score out of fold, on the rescaling that was best.

    Attributes:
        report: of the out-of-fold scores; its deciding score is the chosen one.
        plain_areas: by score, without any rescaling.
        by_rescaling: area of one fixed score under each rescaling, by which the rescaling was chosen.
        ends: quality of student and teacher as they are.
    """

    report: Report
    plain_areas: Mapping[str, float]
    by_rescaling: Mapping[str, float]
    ends: tuple[float, float]
    rescaling: str
    folds: int

    def gap(self, line: FloatArray) -> FloatArray:
        """Share of the gap that qualities recover, in parts of student and teacher as they are."""
        low, high = self.ends
        return np.asarray((line - low) / (high - low)) if high > low else np.full(len(line), np.nan)

    def unseen_classes(self) -> list[str]:
        """Names of the classes of which the pictures show no object; they have no AP to learn from."""
        side = self.report.task.quality_name
        return [row["class"] for row in self.report.class_rows() if row["teacher"][side] is None]

    def unseen_sentence(self) -> str:
        """The same for people; empty where every class was seen."""
        names, classes = self.unseen_classes(), len(self.report.class_rows())
        if not names:
            return ""
        shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
        return (
            f"{len(names)} of {classes} classes {'were' if len(names) > 1 else 'was'} never seen: {shown}. "
            "Nothing could be learned of them."
        )

    def warnings(self) -> list[str]:
        """What speaks against the chosen score: no better than a coin, or at its chosen point than mixing
        single models at random at equal cost.
        """
        report = self.report
        score, area, coin = report.curve.score, report.curve.area(), area_of(report.curve.random)
        where = f"on the {len(report.run):,} pictures of the fit"
        found = []
        if area <= coin:
            found.append(
                f"score `{score}` routes no better than a coin {where}: area {area:.4f}, a coin's {coin:.4f}"
            )
        for kind, (margin, *_) in report.margins.items():
            if margin.value < 0:
                found.append(
                    f"with score `{score}` the pair lies {-margin.value:.4f} below the hull of single models "
                    f"{where}, at a deferral rate of {percent(margin.deferral_rate)} and equal "
                    f"{'multiply-adds' if kind == 'macs' else 'latency'}"
                )
        return found

    def picked_sentence(self) -> str:
        """What the numbers of a picked score may claim; empty where it was named beforehand."""
        return " ".join(choice_findings(self.report)[1:])

    def rows(self) -> list[dict[str, Any]]:
        """One row a score, the best first, then a coin, the oracle and the published curve."""
        report, rates = self.report, list(PUBLISHED)
        areas = {name: curve.area() for name, curve in report.curves.items()}
        coin, best = area_of(report.curve.random), area_of(report.curve.oracle)
        grid = np.linspace(0, 1, report.curve.images + 1)

        def row(name: str, area: float | None, gap: FloatArray) -> dict[str, Any]:
            on_the_way = None if area is None or best <= coin else (area - coin) / (best - coin)
            return {
                "score": name,
                "area": area,
                "interval": report.intervals.area.get(name),
                "minus_energy": None if area is None else area - areas[report.intervals.reference],
                "minus_energy_interval": report.intervals.area_difference.get(name),
                "minus_energy_interval_picked": report.intervals.area_difference_picked.get(name),
                "coin_to_oracle": on_the_way,
                "area_without_rescaling": self.plain_areas.get(name),
                "gap": dict(zip(map(str, rates), gap.tolist(), strict=True)),
            }

        ranked = [
            row(name, areas[name], self.gap(np.interp(rates, curve.deferral_rate, curve.quality)))
            for name, curve in sorted(report.curves.items(), key=lambda item: -areas[item[0]])
        ]
        lines = {"(coin)": (report.curve.random, coin), "(oracle)": (report.curve.oracle, best)}
        ends = [
            row(name, area, self.gap(np.interp(rates, grid, line))) for name, (line, area) in lines.items()
        ]
        published = [row("(EBJR, published)", None, np.array(list(PUBLISHED.values())))]
        return [*ranked, *ends, *(published if report.task.name == "detection" else [])]

    @property
    def chosen(self) -> str:
        """The score that is saved."""
        return self.report.analysis.score

    def verdict(self) -> str:
        """One sentence: what the saved score is worth beside a coin and the oracle, and how it was picked."""
        curves, count = self.report.curves, plural(len(self.report.run), "picture")
        areas = {name: curve.area() for name, curve in curves.items()}
        coin, oracle = area_of(self.report.curve.random), area_of(self.report.curve.oracle)
        way = (areas[self.chosen] - coin) / (oracle - coin) if oracle > coin else None
        among = self.report.analysis.picked_among
        rank = f"the best of {plural(among, 'score')} that can be saved" if among else "named beforehand"
        text = f"{self.chosen}, {rank}, on {count}"
        if way is None:
            return f"{text}, cannot help: the best choice in hindsight is no better than a coin."
        if way <= 0:
            return f"{text}, routes NO BETTER THAN A COIN: do not use it."
        return f"{text}, comes {share(way)} % of the way from a coin to the best choice in hindsight."

    def sentences(self) -> list[str]:
        """Whether the pair pays with it, how sure its lead over energy is, and classes never seen."""
        reference, areas = self.report.intervals.reference, self.report.curves
        found = [pair_verdict(self.report), *margin_findings(self.report)]
        if self.chosen != reference:
            difference = areas[self.chosen].area() - areas[reference].area()
            quality, more = self.report.task.quality_name, "more" if difference >= 0 else "less"
            sure = difference_words(self.report, self.chosen, self.report.analysis.picked_among)
            found.append(
                f"Its area ({quality} over all deferral rates) is {abs(difference):.4f} {more} than that of "
                f"{reference}. {sure}"
            )
        return [*found, *filter(None, [self.unseen_sentence(), self.picked_sentence()])]

    def summary_table(self) -> Table:
        """The few rows to see first: the best scores, the saved one, energy, a coin and the oracle."""
        whole, level = self.rows(), 100 * self.report.intervals.confidence
        ranked = [row for row in whole if not row["score"].startswith("(")]
        kept = {row["score"] for row in ranked[:5]} | {self.chosen, self.report.intervals.reference}
        picked = self.report.analysis.picked_among > 0
        rate = min(PUBLISHED, key=lambda rate: abs(rate - 0.3))
        cells = [
            [
                row["score"] + " (saved)" * (row["score"] == self.chosen),
                number(row["area"], digits=4),
                number(row["minus_energy"], digits=4, sign="+"),
                self._interval(row, 4, "_picked" * picked),
                number(row["coin_to_oracle"], 100, 1),
                number(row["gap"][str(rate)], 100, 1),
            ]
            for row in whole
            if row["score"] in kept or row["score"].startswith("(")
        ]
        columns = ["score", "area", f"minus {self.report.intervals.reference}", f"{level:g} % interval"]
        columns += ["coin to oracle %", f"gap % at {share(rate)} %"]
        quality = self.report.task.quality_name
        caption = f"every score out of fold; gap: share of the {quality} between student and teacher"
        caption += "; intervals hold for all scores at once, and so for the best of them" * picked
        title = f"Deferral scores on {plural(len(self.report.run), 'picture')}"
        return Table(title, columns, cells, caption)

    def table(self) -> Table:
        """The ranked table."""
        rates = [f"G {rate:.2f}".replace("0.", ".") for rate in PUBLISHED]
        level = f"{100 * self.report.intervals.confidence:g} % interval"
        heads = ["score", "area", "minus energy", level, "to oracle %", "as is", *rates]
        cells = [
            [
                row["score"],
                number(row["area"], digits=4),
                number(row["minus_energy"], digits=3, sign="+"),
                self._interval(row),
                number(row["coin_to_oracle"], 100, 1),
                number(row["area_without_rescaling"], digits=4),
                *(number(value, digits=3) for value in row["gap"].values()),
            ]
            for row in self.rows()
        ]
        caption = (
            f"{self.folds}-fold by picture, every score out of fold; student's scores rescaled: "
            f"{self.rescaling} (area of one score by rescaling: {self._rescalings()}); interval: of "
            f"minus energy, for one score alone; to oracle: part of the way from a coin; as is: area "
            f"without; G: share of the gap from student {self.ends[0]:.4f} to teacher "
            f"{self.ends[1]:.4f} as they are"
        )
        title = (
            f"Deferral scores on {plural(len(self.report.run), 'picture')}, {self.report.task.quality_name}"
        )
        return Table(title, heads, cells, caption)

    def _interval(self, row: Mapping[str, Any], digits: int = 3, picked: str = "") -> str:
        ends = row[f"minus_energy_interval{picked}"]
        return NONE if ends is None else interval_text(ends, digits=digits)

    def _rescalings(self) -> str:
        return ", ".join(f"{name} {area:.4f}" for name, area in self.by_rescaling.items())

    def evidence(self) -> dict[str, Any]:
        """Plain values of all that was tried."""
        return {
            "quality_name": self.report.task.quality_name,
            "images": len(self.report.run),
            "folds": self.folds,
            "student_quality": self.ends[0],
            "teacher_quality": self.ends[1],
            "score": self.report.analysis.score,
            "rescaling": self.rescaling,
            "unseen_classes": self.unseen_classes(),
            "area_by_rescaling": dict(self.by_rescaling),
            "interval_method": METHOD,
            "picked_among": self.report.analysis.picked_among,
            "warnings": self.warnings(),
            "scores": self.rows(),
        }


def settings_text(trial: RouterTrial, settings: Mapping[str, Any]) -> str:
    """The settings of a fit as YAML, for the folder of its report."""
    plain = {**settings, "cost": dict(settings["cost"].__dict__), "rescaling": trial.rescaling}
    plain["references"] = [one._asdict() | {"file": str(one.file)} for one in settings["references"]]
    plain["rates"] = list(settings["rates"])
    plain["class_weights"] = dict(plain["class_weights"] or {})
    return yaml.safe_dump({"replay": trial.report.task.name, "fit_router": plain}, sort_keys=False)
