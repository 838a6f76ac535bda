"""What a fit of routers tried, as a ranked table and as the evidence that its file carries."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml

from ebjr_det.core.errors import listed
from ebjr_det.core.types import FloatArray
from ebjr_det.evaluation.bootstrap import METHOD
from ebjr_det.evaluation.report import Report, area_of, coin_to_oracle
from ebjr_det.reporting.answer import verdict as pair_verdict
from ebjr_det.reporting.choices import choice_findings, estimate_finding, without_labels
from ebjr_det.reporting.notation import NONE, interval_text, number, percent, plural, share
from ebjr_det.reporting.sentences import difference_words, margin_findings
from ebjr_det.reporting.table import Table
from ebjr_det.tasks import load_task

RATES = (0.099, 0.172, 0.298, 0.397, 0.514, 0.826)
"""Deferral rates at which the share of the gap is told: those of EBJR's COCO figure (arXiv 2110.10343)."""


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

    @property
    def chosen(self) -> str:
        """The score that is saved."""
        return self.report.analysis.score

    def gap(self, line: FloatArray) -> FloatArray:
        """Share of the gap that qualities recover, in parts of student and teacher as they are."""
        low, high = self.ends
        return np.asarray((line - low) / (high - low)) if high > low else np.full(len(line), np.nan)

    def unseen_classes(self) -> list[str]:
        """Names of the classes of which the pictures show no object; they have no AP to learn from."""
        quality = self.report.task.quality_name
        return [row["class"] for row in self.report.class_rows() if row["teacher"][quality] is None]

    def warnings(self) -> list[str]:
        """What speaks against the chosen score: no better than a coin, or at its chosen point than mixing
        single models at random at equal cost.
        """
        report = self.report
        score, area, coin = report.curve.score, report.curve.area(), area_of(report.curve.random)
        pictures = f"on the {len(report.run):,} pictures of the fit"
        coin_text = f"area {area:.4f}, a coin's {coin:.4f}"
        coins = [f"score `{score}` routes no better than a coin {pictures}: {coin_text}"] * (area <= coin)
        return coins + [
            f"with score `{score}` the pair lies {-margin.value:.4f} below the hull of single models "
            f"{pictures}, at a deferral rate of {percent(margin.deferral_rate)} and equal "
            f"{'multiply-adds' if kind == 'macs' else 'latency'}"
            for kind, (margin, *_) in report.margins.items()
            if margin.value < 0
        ]

    def rows(self) -> list[dict[str, Any]]:
        """One row a score, the best first, then a coin, the oracle and the task's published curve."""
        report, intervals = self.report, self.report.intervals
        areas = {name: curve.area() for name, curve in report.curves.items()}
        coin, oracle = area_of(report.curve.random), area_of(report.curve.oracle)
        grid = np.linspace(0, 1, report.curve.images + 1)

        def row(name: str, area: float | None, gap: FloatArray) -> dict[str, object]:
            return {
                "score": name,
                "area": area,
                "interval": intervals.area.get(name),
                "minus_energy": None if area is None else area - areas[intervals.reference],
                "minus_energy_interval": intervals.area_difference.get(name),
                "minus_energy_interval_picked": intervals.area_difference_picked.get(name),
                "coin_to_oracle": None if area is None else coin_to_oracle(area, coin, oracle),
                "area_without_rescaling": self.plain_areas.get(name),
                "gap": dict(zip(map(str, RATES), gap.tolist(), strict=True)),
            }

        ranked = sorted(report.curves.items(), key=lambda item: -areas[item[0]])
        lines = [(name, areas[name], curve.deferral_rate, curve.quality) for name, curve in ranked]
        lines += [
            ("(coin)", coin, grid, report.curve.random),
            ("(oracle)", oracle, grid, report.curve.oracle),
        ]
        rows = [row(name, area, self.gap(np.interp(RATES, rates, line))) for name, area, rates, line in lines]
        published = load_task(report.task.name).routing.PUBLISHED_GAP
        if published:
            gap = np.array([published[rate] for rate in RATES])
            rows.append(row("(EBJR, published)", None, gap))
        return rows

    def verdict(self) -> str:
        """One sentence: what the saved score is worth beside a coin and the oracle, and how it was picked."""
        curve, picked_among = self.report.curves[self.chosen], self.report.analysis.picked_among
        share_of_way = coin_to_oracle(curve.area(), area_of(curve.random), area_of(curve.oracle))
        rank = "named beforehand"
        if picked_among:
            rank = f"chosen among {plural(picked_among, 'score')} that can be saved"
        lead = without_labels(self.report) + self.chosen
        text = f"{lead}, {rank}, on {plural(len(self.report.run), 'picture')}"
        if share_of_way is None:
            return f"{text}, cannot help: the best choice in hindsight is no better than a coin."
        if share_of_way <= 0:
            return f"{text}, routes NO BETTER THAN A COIN: do not use it."
        return (
            f"{text}, comes {share(share_of_way)} % of the way from a coin to the best choice in hindsight."
        )

    def sentences(self) -> list[str]:
        """Whether the pair pays with it, how sure its lead over energy is, and classes never seen."""
        reference, curves = self.report.intervals.reference, self.report.curves
        sentences = [pair_verdict(self.report), *estimate_finding(self.report), *margin_findings(self.report)]
        if self.chosen != reference:
            difference = curves[self.chosen].area() - curves[reference].area()
            quality, word = self.report.task.quality_name, "more" if difference >= 0 else "less"
            confidence = difference_words(self.report, self.chosen, self.report.analysis.picked_among)
            sentences.append(
                f"Its area ({quality} over all deferral rates) is {abs(difference):.4f} {word} than that of "
                f"{reference}. {confidence}"
            )
        unseen, classes = self.unseen_classes(), len(self.report.class_rows())
        if unseen:
            count = f"{len(unseen)} of {classes} classes {'were' if len(unseen) > 1 else 'was'}"
            sentences.append(f"{count} never seen: {listed(unseen, 10)}. Nothing could be learned of them.")
        return sentences + choice_findings(self.report)[1:]

    def summary_table(self) -> Table:
        """The few rows to see first: the best scores, the saved one, energy, a coin and the oracle."""
        rows, reference, intervals = self.rows(), self.report.intervals.reference, self.report.intervals
        ranked = [row["score"] for row in rows if not row["score"].startswith("(")]
        scores = {*ranked[:5], self.chosen, reference}
        picked = self.report.analysis.picked_among > 0
        rate = min(RATES, key=lambda rate: abs(rate - 0.3))
        cells = [
            [
                row["score"] + " (saved)" * (row["score"] == self.chosen),
                number(row["area"], digits=4),
                number(row["minus_energy"], digits=4, sign="+"),
                _interval(row["minus_energy_interval" + "_picked" * picked], 4),
                number(row["coin_to_oracle"], 100, 1),
                number(row["gap"][str(rate)], 100, 1),
            ]
            for row in rows
            if row["score"] in scores or row["score"].startswith("(")
        ]
        columns = ["score", "area", f"minus {reference}", f"{100 * intervals.confidence:g} % interval"]
        columns += ["coin to oracle %", f"gap % at {share(rate)} %"]
        quality = self.report.task.quality_name
        caption = f"every score out of fold; gap: share of the {quality} between student and teacher"
        caption += "; intervals hold for all scores at once, and so for the best of them" * picked
        return Table(f"Deferral scores on {plural(len(self.report.run), 'picture')}", columns, cells, caption)

    def table(self) -> Table:
        """The ranked table."""
        level = f"{100 * self.report.intervals.confidence:g} % interval"
        columns = ["score", "area", "minus energy", level, "to oracle %", "as is"]
        columns += [f"G {rate:.2f}".replace("0.", ".") for rate in RATES]
        cells = [
            [
                row["score"],
                number(row["area"], digits=4),
                number(row["minus_energy"], digits=3, sign="+"),
                _interval(row["minus_energy_interval"], 3),
                number(row["coin_to_oracle"], 100, 1),
                number(row["area_without_rescaling"], digits=4),
                *(number(value, digits=3) for value in row["gap"].values()),
            ]
            for row in self.rows()
        ]
        rescalings = ", ".join(f"{name} {area:.4f}" for name, area in self.by_rescaling.items())
        caption = (
            f"{self.folds}-fold by picture, every score out of fold; student's scores rescaled: "
            f"{self.rescaling} (area of one score by rescaling: {rescalings}); interval: of "
            f"minus energy, for one score alone; to oracle: part of the way from a coin; as is: area "
            f"without; G: share of the gap from student {self.ends[0]:.4f} to teacher "
            f"{self.ends[1]:.4f} as they are"
        )
        pictures, quality = plural(len(self.report.run), "picture"), self.report.task.quality_name
        return Table(f"Deferral scores on {pictures}, {quality}", columns, cells, caption)

    def evidence(self) -> dict[str, object]:
        """Plain values of all that was tried."""
        return {
            "quality_name": self.report.task.quality_name,
            "images": len(self.report.run),
            "input_remarks": {file: dict(counts) for file, counts in self.report.analysis.remarks.items()},
            "estimated": self.report.run.estimated,
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


def _interval(ends: tuple[float, float] | None, digits: int) -> str:
    return NONE if ends is None else interval_text(ends, digits=digits)


def settings_text(trial: RouterTrial, settings: Mapping[str, Any]) -> str:
    """The settings of a fit as YAML, for the folder of its report."""
    plain = {**settings, "cost": dict(settings["cost"].__dict__), "rescaling": trial.rescaling}
    references, rates, lenient = (plain.pop(name) for name in ("references", "rates", "lenient"))
    plain |= {
        "references": [model.to_dict() for model in references],
        "rates": list(rates),
        "lenient": lenient,
    }
    plain["class_weights"] = dict(plain["class_weights"] or {})
    return yaml.safe_dump({"replay": trial.report.task.name, "fit_router": plain}, sort_keys=False)
