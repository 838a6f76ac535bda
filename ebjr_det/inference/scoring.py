"""From the settings of a router to its scores and its default decision."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ebjr_det.config import RouterSection, parse_section
from ebjr_det.config.sections import AUTO, PUBLISHED
from ebjr_det.core.errors import ConfigError, InvalidInput, did_you_mean
from ebjr_det.core.joint import Router
from ebjr_det.core.router import abstaining_last, check_scores, threshold_for_rate
from ebjr_det.core.scores import CURVATURE, ENERGY, SCORES, deferral_scores
from ebjr_det.core.tradeoff import score_of, select
from ebjr_det.core.types import FloatArray, Logits, Model, Output, PairedRun, Task
from ebjr_det.inference.router_file import load_router_file
from ebjr_det.io.notes import say
from ebjr_det.routing.crossfit import FittedRouter
from ebjr_det.routing.drift import Drift, FittedUse, check_student, check_unseen, shared_images
from ebjr_det.routing.file import RouterFile, check_classes, check_model_of
from ebjr_det.tasks import load_task
from ebjr_det.tasks.adapted import Changed
from ebjr_det.tasks.routing import A_FITTED_ROUTER, Routing, TaskScore


@dataclass(frozen=True)
class Scoring(Router):
    """All deferral scores of a task, and the one that decides.

    `load` reads and checks what needs neither data nor models, `bind` what needs their classes and weights.

    Attributes:
        name: of the deciding score.
        section: the settings; their `score` is this name.
        class_names: of the data, where they are known.
        file, fitted: the router that was fitted, where there is one.
        reference: the deciding scores of the router's fit, else those that an export keeps; None for neither.
    """

    task: str
    name: str
    section: RouterSection
    class_names: tuple[str, ...] = ()
    file: RouterFile | None = None
    fitted: FittedRouter | None = None
    reference: FloatArray | None = None

    @classmethod
    def load(cls, task: str, section: RouterSection, *, live: bool = False) -> "Scoring":
        """Read the router that the settings name, and check the names and options of scores.

        Args:
            live: pictures come one at a time, so that a score of the whole set cannot decide.

        Raises:
            ConfigError: a score, option or aggregate that is unknown, one that needs a fitted router, or one
                of the whole set where pictures come one at a time.
            InvalidInput: a router that is damaged or of another task.
        """
        routing, file, fitted = load_task(task).routing, None, None
        words = {AUTO: CURVATURE, PUBLISHED: ENERGY, **routing.RENAMED}
        name = words.get(section.score or AUTO, section.score or AUTO)
        if section.file is not None:
            file, digest = load_router_file(task, section)
            fitted = routing.load_router(file.arrays) if file.arrays else None
            name = name if section.score not in (None, AUTO) else file.header.score
            settings = {"other_logit": True} | dict(file.header.settings)
            if name != file.header.score:  # its settings are of its own score
                settings = {"other_logit": settings["other_logit"]}
            section = parse_section(RouterSection, {**section.model_dump(), "sha256": digest, **settings})
        fit = file if file is not None and name == file.header.score else None
        reference = None if fit is None else fit.reference
        scoring = cls(task, name, section.model_copy(update={"score": name}), (), file, fitted, reference)
        scoring._check_name(live)
        for warning in () if fit is None else fit.header.warnings:
            say(f"Warning: router `{section.file}`: {warning}.")
        return scoring

    def _check_name(self, live: bool) -> None:
        name, section, routing = self.name, self.section, self._routing
        if name not in SCORES and name not in routing.SCORES:
            hint = routing.RETIRED.get(name) or did_you_mean(
                name, [AUTO, PUBLISHED, *SCORES, *routing.SCORES]
            )
            raise ConfigError(f"Expected a known score, got `{name}`. {hint}")
        if name in routing.SCORES and section.options:
            option = next(iter(section.options))
            raise ConfigError(f"Expected an option of score `{name}`, got `{option}`. There is none.")
        if self.fitted is None and self._score.needs == A_FITTED_ROUTER:
            raise ConfigError(
                f"Expected a fitted router for score `{name}`, got none. Make one: ebjr-det fit-router."
            )
        if self.fitted is not None and self._score.features and not self.fitted.features:
            raise ConfigError(
                f"Expected a router that was fitted with the student's features for score `{name}`, got "
                f"`{section.file}`. Fit one on a new run, or choose another score."
            )
        for registered in SCORES:  # options and aggregate, on a made-up picture
            self._of_logits(registered, Output([None], Logits.one_row(np.zeros((1, 2)))))
        if live:
            self.check_live()

    def check_live(self) -> None:
        """Raises ConfigError where no picture has the deciding score on its own."""
        if self._score.whole_set:
            raise ConfigError(
                f"Expected a score that one picture has on its own, got `{self.name}`, which looks at the "
                "whole set. It works in replay; choose another one here."
            )

    def bind(
        self, class_names: Sequence[str], popular: Sequence[str] = (), student: str = "", weights: str = ""
    ) -> "Scoring":
        """The scoring of data of these classes by this student.

        Args:
            popular: the classes that a specialised student tells apart.
            student: its name, or empty where it is not to be compared; `weights`: a digest of its weights,
                empty where it shows none.

        Raises:
            ConfigError: the deciding score needs class counts, and nobody knows any for these classes.
            InvalidInput: a router that was made for other classes, or for another student.
        """
        if self.file is not None:
            check_classes(self.file.header, class_names, str(self.section.file), popular)
            if student:
                check_model_of(self.file.header, student, weights, str(self.section.file))
        if class_names:
            self.check_counts(class_names)
        return replace(self, class_names=tuple(class_names))

    def check_counts(self, class_names: Sequence[str]) -> None:
        """Raises ConfigError where the deciding score needs class counts, and nobody knows any of these."""
        counted = self.fitted is not None or self._routing.has_class_counts(class_names)
        if self._score.needs and not counted:
            raise ConfigError(
                f"Expected class counts for score `{self.name}`, got none: they are published for COCO's "
                "classes only. Make them from pictures of these classes: ebjr-det fit-router."
            )

    def scores(self, output: Output) -> dict[str, FloatArray]:
        """Every score of a batch of answers of `adapted(student)`, each image on its own.

        Raises:
            ConfigError: the deciding score looks at raw candidates, and the answers come without.
            InvalidInput: it looks at the student's features, and they are another student's.
        """
        classes = output.logits.values.shape[2]
        single = classes == 1
        fitted_for = 0 if self.file is None or output.abstains is not None else self.file.header.classes
        if not single and fitted_for not in (0, classes):
            raise InvalidInput(
                f"Expected a router made for the student's {classes} classes, got `{self.section.file}` for "
                f"{fitted_for}. Fit a router on these classes."
            )
        names = [name for name, score in SCORES.items() if not (single and score.all_classes)]
        if self.name in SCORES:
            names = list(dict.fromkeys([*names, self.name]))
        of_logits = {name: self._of_logits(name, output) for name in names}
        of_task: dict[str, FloatArray] = (
            self.fitted.scores(output)
            if self.fitted is not None
            else self._routing.plain_scores(output, self.class_names)
        )
        if self._score.candidates or self._score.features:
            of_task |= {self.name: self._deciding(output)}
        return of_logits | of_task

    def scores_of_raw(self, output: Output) -> dict[str, FloatArray]:
        """`scores` of answers that the student itself has given."""
        return self.scores(self._change(output))

    def score(self, output: Output) -> FloatArray:
        """The deciding score alone, pictures that the student hands on above all others."""
        return abstaining_last(self._deciding(output), output.abstains)

    def deferral_scores(self, output: Output, name: str | None = None) -> FloatArray:
        """A score of answers of `adapted(student)` by its name, by default the deciding one, [images].

        Pictures that the student hands on lie above all others. A score of the whole set takes these images
        for the set.

        Raises:
            ConfigError: an unknown score, or one that needs what is not here: a fitted router, class counts,
                raw candidates, the logits of all classes.
            InvalidInput: scores that are not finite.
        """
        return check_scores(self._named(name).score(output))

    def _named(self, name: str | None) -> "Scoring":
        """The scoring of these classes by another score; options are of the deciding one alone."""
        if (name := self._routing.RENAMED.get(name or self.name, name or self.name)) == self.name:
            return self
        section = self.section.model_copy(update={"score": name, "options": {}})
        scoring = replace(self, name=name, section=section)
        scoring._check_name(live=False)
        scoring.check_counts(self.class_names)
        return scoring

    def _deciding(self, output: Output) -> FloatArray:
        if self.name in SCORES:
            return self._of_logits(self.name, output)
        if self.fitted is not None:
            return self.fitted.score(self.name, output)
        return np.asarray(self._routing.plain_score(self.name, output, self.class_names))

    def adapted(self, student: Model) -> Model:
        """The student as scores look at it: its scores comparable with the teacher's, its logit of "other"
        left out where the settings say so.
        """
        return student if self.fitted is None and self.section.other_logit else Changed(student, self._change)

    def _change(self, output: Output) -> Output:
        logits = output.logits
        if output.abstains is not None and not self.section.other_logit and logits.values.shape[2] > 1:
            output = replace(output, logits=replace(logits, values=logits.values[:, :, :-1]))
        return output if self.fitted is None else self.fitted.rescale(output)

    def of_records(self, run: PairedRun, task: Task) -> tuple[PairedRun, FittedUse | None]:
        """A run of saved answers as the router sees it: rescaled, on unseen pictures, with scores of the set.

        Raises:
            InvalidInput: see `unseen`.
        """
        if self.fitted is not None:
            run = replace(run, student=self.fitted.rescale_records(run.student))
        run, use = self.unseen(run, task)
        return self._with_set(run), use

    def routed(self, run: PairedRun) -> PairedRun:
        """A run as the student answered, as its router sees it: rescaled, with every score of records."""
        if self.fitted is None:
            return run
        run = replace(run, student=self.fitted.rescale_records(run.student))
        return replace(run, scores={**run.scores, **self.fitted.scores_of_set(run)})

    def _with_set(self, run: PairedRun) -> PairedRun:
        scores = (
            self.fitted.scores_of_set(run)
            if self.fitted is not None
            else self._routing.plain_scores_of_set(run, self.class_names)
        )
        of_set = {name: values for name, values in scores.items() if self._routing.SCORES[name].whole_set}
        return replace(run, scores={**run.scores, **of_set})

    def unseen(self, run: PairedRun, task: Task) -> tuple[PairedRun, FittedUse | None]:
        """The pictures that the router was not fitted on, and how its score has moved on them.

        Raises:
            InvalidInput: all pictures were in the fit, or the student's numbers are another student's.
        """
        if self.file is None:
            return run, None
        header, routing, path = self.file.header, self._routing, str(self.section.file)
        images = len(header.image_ids), len(run)
        check_student(self.file.student_scores, routing.student_numbers(run), path, images)
        fingerprints = routing.fingerprints(run)
        fitted_on = shared_images(header.image_ids, header.fingerprints, run.image_ids, fingerprints)
        check_unseen(fitted_on, path)
        unseen = select(run, task, np.flatnonzero(~fitted_on)) if fitted_on.any() else run
        drift = None
        if self.name == header.score:
            drift = Drift.of(self.file.reference, score_of(self._with_set(unseen), self.name))
        left_out = tuple(np.array(run.image_ids, dtype=object)[fitted_on].tolist())
        use = header.score, header.rescaling, images[0], left_out, drift, header.teacher
        return unseen, FittedUse(*use, str(self.section.sha256))

    def threshold_for(self, rate: float) -> float:
        """The threshold that defers at most this share of the reference scores.

        Raises:
            ConfigError: there are none, or no such rate.
        """
        if self.reference is None:
            raise ConfigError(
                f"Expected a router that was fitted for score `{self.name}` beside a rate, or the export of "
                "a run, got neither. Give a threshold."
            )
        return threshold_for_rate(self.reference, rate)

    @property
    def formula(self) -> str:
        """What the deciding score computes."""
        return SCORES[self.name].formula if self.name in SCORES else self._score.formula

    @property
    def _routing(self) -> Routing:
        return load_task(self.task).routing

    @property
    def _score(self) -> TaskScore:
        """What is known of the deciding score; of one of logits, that it needs nothing."""
        return self._routing.SCORES.get(self.name, TaskScore("", ""))

    def _of_logits(self, name: str, output: Output) -> FloatArray:
        """A registered score of logits; the options go to the deciding score alone."""
        section, options = self.section, self.section.options if name == self.name else {}
        return deferral_scores(output, name, top_k=section.top_k, aggregate=section.aggregate, **options)
