"""Spans of OpenTelemetry, where the program around the server has set a tracer provider; else nothing."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import time_ns
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from ebjr_det.serving.desk import Answered

STAGES = ("read", "student_wait", "student", "teacher_wait", "teacher")
"""In the order in which they follow each other."""


@contextmanager
def span_of(headers: Mapping[str, str]) -> Iterator["Span | None"]:
    """A span of a request, below that of its client where the header `traceparent` names one.

    None where nobody has loaded OpenTelemetry, which this module therefore never does itself.
    """
    if "opentelemetry.sdk.trace" not in sys.modules:
        yield None
        return
    from opentelemetry.propagate import extract
    from opentelemetry.trace import SpanKind, get_tracer

    tracer = get_tracer("ebjr_det.serving")
    with tracer.start_as_current_span("infer", context=extract(headers), kind=SpanKind.SERVER) as span:
        yield span


def add_stages(span: "Span", answer: "Answered") -> None:
    """Tell a request's span who answered, and add a span for each stage, with the seconds it was measured."""
    from opentelemetry.trace import get_tracer, set_span_in_context

    span.set_attribute("ebjr.pictures", len(answer.scores))
    span.set_attribute("ebjr.deferred", answer.answered_by.count("teacher"))
    span.set_attribute("ebjr.threshold", answer.threshold)
    span.set_attribute("ebjr.degraded", sorted({reason for reason in answer.degraded if reason}))
    tracer, context = get_tracer("ebjr_det.serving"), set_span_in_context(span)
    start = time_ns() - int(answer.total * 1e9)
    for stage in STAGES:
        if stage in answer.seconds:
            stop = start + int(answer.seconds[stage] * 1e9)
            tracer.start_span(stage, context=context, start_time=start).end(stop)
            start = stop
