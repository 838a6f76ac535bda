"""A report's first sentence: does the pair pay, said of pairs of which the answer is known."""

from dataclasses import replace

import numpy as np
import pytest

from ebjr_det.core.cost import CostModel
from ebjr_det.evaluation.analysis import Analysis, Profile
from ebjr_det.evaluation.report import build_report
from ebjr_det.io.load import Load
from ebjr_det.reporting.answer import headline, short_answer, verdict
from ebjr_det.reporting.sentences import findings, main_findings, zero_words
from ebjr_det.reporting.tables import summary_table
from ebjr_det.tasks.classification.metric import Accuracy

IMAGES = 200
TASK = Accuracy()


@pytest.fixture(scope="module")
def right(pair):
    """A pair whose score is an oracle: exactly what the student has wrong is deferred at 40 %."""
    run = pair(IMAGES, 5)
    student, teacher = np.ones(IMAGES, bool), np.ones(IMAGES, bool)
    student[: 2 * IMAGES // 5], teacher[-2:] = False, False
    sides = ({**own, "correct": correct} for own, correct in ((run.student, student), (run.teacher, teacher)))
    score = np.linspace(1, 0, IMAGES)
    scores = {"max_softmax": score, "free_energy": score[::-1].copy()}
    return replace(run, student=next(sides), teacher=next(sides), scores=scores)


def report(run, cost: CostModel, score: str = "max_softmax"):
    threshold = float(np.sort(run.scores[score])[-2 * IMAGES // 5 - 1])
    names = Profile("small"), Profile("large")
    return build_report(
        run, TASK, Analysis("A pair", score, "f", threshold, *names, cost=cost, replicates=60)
    )


@pytest.mark.parametrize(
    ("cost", "heading", "says"),
    [
        (
            CostModel(1e9, 1e11),
            "At 41 % of the teacher's computation you get 101 % of its quality: this pair pays",
            "This pair pays: at 41.0 % of the teacher's multiply-adds you get 101.0 % of its accuracy "
            "(100.00 of 99.00 %); that is {margin} more than single models mixed at random would give at "
            "that cost.",
        ),
        (
            CostModel(9e10, 1e11, None, None),
            "At 130 % of the teacher's computation you get 101 % of its quality: it is not shown that",
            "It is not shown that this pair pays, because single models mixed at random may do as well at "
            "its cost: at 130.0 % of the teacher's multiply-adds you get",
        ),
        (
            CostModel(student_ms=1.0, teacher_ms=100.0),
            "At 41 % of the teacher's time you get",
            "This pair pays: at 41.0 % of the teacher's time you get",
        ),
        (
            CostModel(),
            "With 40 % of the images sent to the teacher you get",
            "Whether this pair pays is not known without its models' costs: with 40.00 % of the images sent "
            "to the teacher you get 101.0 % of its accuracy (100.00 of 99.00 %).",
        ),
        (
            CostModel(1e9, 1e11, 99.0, 100.0),
            "At 41 % of the teacher's computation you get 101 % of its quality: this pair pays in "
            "computation and ",
            "This pair pays in multiply-adds and ",
        ),
    ],
)
def test_the_verdict_is_that_of_the_intervals(right, cost, heading, says):
    built = report(right, cost)
    margins = built.margins.get("macs")
    if margins:
        low, high = (100 * end for end in margins[0].interval)
        says = says.replace("{margin}", f"{100 * margins[0].value:.2f} points [{low:.2f}, {high:.2f}]")
    assert verdict(built).startswith(says)
    assert headline(built).startswith(heading)


def test_the_answer_is_three_sentences_and_what_is_amiss_comes_after_them(right):
    built = report(right, CostModel(1e9, 1e11))
    _, who, trust = short_answer(built)
    threshold = f"max_softmax > {built.decision.threshold:.8g}"
    assert who == f"40.00 % of the images go to the teacher, those with {threshold}."
    assert trust == "Judged on 200 images; in brackets 95 % intervals from 60 resamples of them."
    given = replace(built, analysis=replace(built.analysis, threshold_from="given"))
    assert short_answer(given)[2].endswith("picked by its quality on these images, that quality flatters.")
    picked = replace(built, analysis=replace(built.analysis, picked_among=7))
    assert "picked among 7 scores on these very images" in short_answer(picked)[2]
    load = Load(1.3, 0.7, 2, 60.0)
    noisy = replace(built, analysis=replace(built.analysis, batch_load=load))
    assert short_answer(noisy)[3:] == [
        f"Latencies were measured {load.in_words}. Measure them again on a quiet machine."
    ]


def test_a_bad_score_does_not_pay_and_the_margin_says_by_how_much(right):
    built = report(right, CostModel(1e9, 1e11), "free_energy")
    (margin, *_) = built.margins["macs"]
    assert verdict(built).startswith(
        "This pair does not pay, because single models mixed at random do better at its cost: at 41.0 % "
        "of the teacher's multiply-adds"
    )
    sentence = main_findings(built)[0]
    low, high = (100 * end for end in margin.interval)
    assert high < 0
    assert f"{-100 * margin.value:.2f} points less" in sentence
    assert f"[{low:.2f}, {high:.2f}] from 60 resamples of the images, excludes 0." in sentence
    assert sentence.endswith("(This is the margin over the hull of single models.)")


def test_a_teacher_that_is_no_better_is_said_first(right):
    swapped = replace(right, student=right.teacher, teacher=right.student)
    said = verdict(report(swapped, CostModel(1e9, 1e11)))
    assert said.startswith(
        "There is nothing to gain here: the teacher's accuracy, 60.00 %, is no better than "
    )


def test_the_best_of_several_scores_is_said_to_be_picked(right):
    built = report(right, CostModel())
    low, high = built.intervals.area_difference_picked["max_softmax"]
    sentence = next(one for one in main_findings(built) if "The best of 2 scores here is max_softmax" in one)
    assert f"[{low:.4f}, {high:.4f}]" in sentence
    assert zero_words(low, high) in sentence
    assert "picked as the best of 2 on these very images" in sentence


def test_no_sentence_leaves_chance_unexplained(right):
    for cost in (CostModel(1e9, 1e11), CostModel(1e9, 1e11, 99.0, 100.0), CostModel()):
        for score in right.scores:
            text = " ".join(findings(report(right, cost, score)))
            assert "than chance" not in text
            assert "within chance" not in text
            assert "BELOW" not in text


def test_the_small_table_has_what_the_verdict_compares(right):
    built = report(right, CostModel(1e9, 1e11))
    table = summary_table(built)
    rows = {row[0]: row[1:] for row in table.rows}
    (margin, *_) = built.margins["macs"]
    assert list(table.columns) == ["model", "accuracy %", "deferred %", "GMACs"]
    assert rows["student small"] == ["60.00", "-", "1.000"]
    assert rows["teacher large"] == ["99.00", "-", "100.0"]
    assert rows["pair"] == ["100.00", "40.00", "41.00"]
    assert rows["single models mixed, same MACs"][0] == f"{100 * (margin.quality - margin.value):.2f}"
    assert rows["pair, random deferral"][0] == "75.60"
    assert rows["pair, oracle deferral"][0] == "100.00"
