"""From the settings of a router to its scores and its default decision."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ebjr_det.config import RouterSection, parse_section
from ebjr_det.core.errors import ConfigError, InvalidInput, did_you_mean
from ebjr_det.core.router import abstaining_last, decide, threshold_for_rate
from ebjr_det.core.scores import ENERGY, SCORES, deferral_scores
from ebjr_det.core.tradeoff import score_of, select
from ebjr_det.core.types import FloatArray, Logits, Model, Output, PairedRun, RouterDecision, Task
from ebjr_det.io.files import checksum
from ebjr_det.io.notes import say
from ebjr_det.routing.drift import Drift, FittedUse, check_student, check_unseen, shared_images
from ebjr_det.routing.file import RouterFile, check_classes, check_student_of
from ebjr_det.tasks import room
from ebjr_det.tasks.adapted import Changed

DEFAULT_RATE = 0.3
"""Deferral rate of the chosen point when neither a threshold nor a target is given; needs no label."""


@dataclass(frozen=True)
class Scoring:
    """All deferral scores of a task, and the one that decides.

    Attributes:
        name: of the deciding score.
        section: the settings; their `score` is the same.
        class_names: of the data, where they are known.
        file, fitted: the router that was fitted, where there is one.
    """

    task: str
    name: str
    section: RouterSection
    class_names: tuple[str, ...] = ()
    file: RouterFile | None = None
    fitted: Any = None

    @classmethod
    def of(cls, task: str, section: RouterSection) -> "Scoring":
        """Read the router that the settings name, and check the names and options of scores.

        Raises:
            ConfigError: a score, option or aggregate that is unknown, or one that needs a fitted router.
            InvalidInput: a router that is damaged or of another task.
        """
        file = fitted = None
        if section.file is not None:
            file, digest = RouterFile.load(Path(section.file)), checksum(Path(section.file))
            if section.sha256 not in (None, digest):
                raise InvalidInput(
                    f"Expected the router with sha256 {section.sha256[:12]}... at `{section.file}`, got "
                    "another. Name the one that was meant, or evaluate anew."
                )
            section = section.model_copy(update={"sha256": digest})
            if file.header.task != task:
                raise InvalidInput(
                    f"Expected a router for {task}, got `{section.file}` for {file.header.task}."
                )
            fitted = room(task, "router").load_router(file.arrays) if file.arrays else None
        name = section.score or (ENERGY if file is None else file.header.score)
        if file is not None:
            told = {"other_logit": True} | dict(file.header.settings)
            told = told if name == file.header.score else {"other_logit": told["other_logit"]}
            section = parse_section(RouterSection, {**section.model_dump(), **told})
        scoring = cls(task, name, section.model_copy(update={"score": name}), (), file, fitted)
        scoring._check_names()
        if file is not None and name == file.header.score:
            for warning in file.header.warnings:
                say(f"Warning: router `{section.file}`: {warning}.")
        return scoring

    def _check_names(self) -> None:
        name, box = self.name, self._room.FORMULAS
        if name not in SCORES and name not in box:
            hint = did_you_mean(name, [*SCORES, *box])
            raise ConfigError(f"Expected a known score, got `{name}`. {hint}")
        if name in box and self.section.options:
            option = next(iter(self.section.options))
            raise ConfigError(f"Expected an option of score `{name}`, got `{option}`. There is none.")
        needs = self._room.NEEDS_ROUTER.get(name)
        if self.fitted is None and needs == "a fitted router":
            raise ConfigError(
                f"Expected a fitted router for score `{name}`, got none. Make one: ebjr-det fit-router."
            )
        if self.fitted is not None and name in self._room.FEATURES and not self.fitted.features:
            raise ConfigError(
                f"Expected a router that was fitted with the student's features for score `{name}`, got "
                f"`{self.section.file}`. Fit one on a new run, or choose another score."
            )
        for known in SCORES:
            self._of_logits(known, Output([None], Logits.one_row(np.zeros((1, 2)))))

    def of_classes(self, class_names: Sequence[str], popular: Sequence[str] = ()) -> "Scoring":
        """The same for data of these classes, and a student that tells only the `popular` ones apart.

        Raises:
            ConfigError: the deciding score needs class counts, and nobody knows any for these.
            InvalidInput: a router that was made for others.
        """
        if self.file is not None:
            check_classes(self.file.header, class_names, str(self.section.file), popular)
        scoring = replace(self, class_names=tuple(class_names))
        known = self.fitted is not None or not class_names or room_knows_counts(self._room, class_names)
        if self.name in self._room.NEEDS_ROUTER and not known:
            raise ConfigError(
                f"Expected class counts for score `{self.name}`, got none: they are published for COCO's "
                "classes only. Make them from pictures of these classes: ebjr-det fit-router."
            )
        return scoring

    def live(self) -> "Scoring":
        """The same. Raises ConfigError where the score needs the whole set, not one picture at a time."""
        if self.name in self._room.WHOLE_SET:
            raise ConfigError(
                f"Expected a score that one picture has on its own, got `{self.name}`, which looks at the "
                "whole set. It works in replay; choose another one here."
            )
        return self

    def of_student(self, name: str, weights: str = "") -> "Scoring":
        """The same. Raises InvalidInput where the router was fitted for another student."""
        if self.file is not None:
            check_student_of(self.file.header, name, weights, str(self.section.file))
        return self

    def scores(self, output: Output) -> dict[str, FloatArray]:
        """Every score of a batch of the student's answers, each image on its own.

        Raises:
            ConfigError: the deciding score looks at raw candidates, and the answers come without.
            InvalidInput: it looks at the student's features, and they are another student's.
        """
        classes = output.logits.values.shape[2]
        single = classes == 1
        known = 0 if self.file is None or output.abstains is not None else self.file.header.classes
        if not single and known not in (0, classes):
            raise InvalidInput(
                f"Expected a router made for the student's {classes} classes, got `{self.section.file}` for "
                f"{known}. Fit a router on these classes."
            )
        named = [name for name, score in SCORES.items() if not (single and score.all_classes)]
        if self.name in SCORES:
            named = list(dict.fromkeys([*named, self.name]))
        rows = {name: self._of_logits(name, output) for name in named}
        boxes: dict[str, FloatArray] = (
            self.fitted.scores(output)
            if self.fitted is not None
            else self._room.plain_scores(output, self.class_names)
        )
        if self.name in self._room.CANDIDATES | self._room.FEATURES:
            boxes |= {self.name: self._raw(output)}
        return rows | boxes

    def scores_of_raw(self, output: Output) -> dict[str, FloatArray]:
        """The same of answers that `student` has not changed."""
        return self.scores(self._changed(output))

    def score(self, output: Output) -> FloatArray:
        """The deciding score alone, pictures that the student hands on above all others."""
        return abstaining_last(self._raw(output), output.abstains)

    def _raw(self, output: Output) -> FloatArray:
        name = self.name
        if name in SCORES:
            return self._of_logits(name, output)
        if self.fitted is not None:
            return np.asarray(self.fitted.score(name, output))
        return np.asarray(self._room.plain_score(name, output, self.class_names))

    def student(self, model: Model) -> Model:
        """The student as scores look at it: its scores comparable with the teacher's, its logit of "other"
        left out where the settings say so.
        """
        unchanged = self.fitted is None and self.section.other_logit
        return model if unchanged else Changed(model, self._changed)

    def _changed(self, output: Output) -> Output:
        logits = output.logits
        if output.abstains is not None and not self.section.other_logit and logits.values.shape[2] > 1:
            output = replace(output, logits=Logits(logits.values[:, :, :-1], logits.valid))
        return output if self.fitted is None else self.fitted.rescale(output)

    def rescaled(self, run: PairedRun) -> PairedRun:
        """A run of answers that `student` has not changed, rescaled."""
        if self.fitted is None:
            return run
        return replace(run, student=self.fitted.rescale_records(run.student))

    def with_set(self, run: PairedRun) -> PairedRun:
        """The run with the scores that look at the whole set, which is its images."""
        found = (
            self.fitted.scores_of_set(run)
            if self.fitted is not None
            else self._room.plain_scores_of_set(run, self.class_names)
        )
        whole = {name: values for name, values in found.items() if name in self._room.WHOLE_SET}
        return replace(run, scores={**run.scores, **whole})

    def unseen(self, run: PairedRun, task: Task) -> tuple[PairedRun, FittedUse | None]:
        """The pictures that the router was not fitted on, and how its score has moved on them.

        Raises:
            InvalidInput: all pictures were in the fit, or the student's numbers are another student's.
        """
        if self.file is None:
            return run, None
        header = self.file.header
        sizes, numbers = (len(header.image_ids), len(run)), self._room.student_numbers(run)
        check_student(self.file.student_scores, numbers, str(self.section.file), sizes)
        prints = self._room.fingerprints(run)
        known = shared_images(header.image_ids, header.fingerprints, run.image_ids, prints)
        check_unseen(known, str(self.section.file))
        kept = select(run, task, np.flatnonzero(~known)) if known.any() else run
        drift = None
        if self.name == header.score:
            drift = Drift.of(self.file.reference, score_of(self.with_set(kept), self.name))
        use = FittedUse(
            header.score,
            header.rescaling,
            len(header.image_ids),
            tuple(image for image, left in zip(run.image_ids, known, strict=True) if left),
            drift,
            header.teacher,
            str(self.section.sha256),
        )
        return kept, use

    def threshold_for(self, rate: float) -> float:
        """The threshold of the deciding score that defers at most this share of the fit's pictures.

        Raises:
            ConfigError: no router was fitted for this score, or no such rate.
        """
        if self.file is None or self.name != self.file.header.score:
            raise ConfigError(
                f"Expected a router that was fitted for score `{self.name}` beside a rate, got none. "
                "Give a threshold."
            )
        return threshold_for_rate(self.file.reference, rate)

    @property
    def formula(self) -> str:
        """What the deciding score computes."""
        name = self.name
        return SCORES[name].formula if name in SCORES else str(self._room.FORMULAS[name][0])

    @property
    def _room(self) -> ModuleType:
        return room(self.task, "router")

    def _of_logits(self, name: str, output: Output) -> FloatArray:
        """A registered score of logits; the options go to the deciding score alone."""
        section, logits = self.section, output.logits
        options = section.options if name == self.name else {}
        return deferral_scores(logits, name, top_k=section.top_k, aggregate=section.aggregate, **options)


def room_knows_counts(router: ModuleType, class_names: Sequence[str]) -> bool:
    """Whether class counts of these classes were published."""
    return hasattr(router, "published") and router.published(class_names) is not None


def default_rate(run: PairedRun) -> float:
    """What is deferred where nothing is asked for: 0.3 of the images that the student answers itself.

    A specialised student's "other" all goes to the teacher.
    """
    handed_on = 0.0 if run.abstains is None else float(run.abstains.mean())
    return handed_on + DEFAULT_RATE * (1 - handed_on)


def at_rate(run: PairedRun, score: str, rate: float) -> RouterDecision:
    """The decision that defers at most a share of the images; needs no label.

    Raises:
        ConfigError: the run has no such score.
    """
    values = score_of(run, score)
    return decide(values, threshold_for_rate(values, rate))
