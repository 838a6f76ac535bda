"""The glossary: every word that a report, a screen or a figure uses beyond plain English, defined once.

The page shows it folded; the documentation is generated from it. A definition names what a word means for
the reader, then how it is computed.
"""

from collections.abc import Mapping
from typing import Final

GLOSSARY: Final[Mapping[str, str]] = {
    "student": "The small, cheap model. It sees every picture and answers most of them.",
    "teacher": "The large, expensive model. It sees only what is sent on to it.",
    "pair": "Student and teacher with a router between them: one answer a picture, the student's or the "
    "teacher's, never a blend.",
    "router": "The rule that decides who answers. It sees the student's numbers, never the picture, and "
    "computes one deferral score from them.",
    "deferral score": "One number a picture, higher where the student is less to be trusted. It costs next "
    "to nothing beside a model.",
    "threshold": "Where the line is drawn: a picture goes to the teacher if its deferral score is "
    "strictly above the threshold. It can be changed at any time, without training.",
    "deferral rate": "The share of pictures that go to the teacher, in % or from 0 to 1.",
    "operating point": "One threshold and what the pair does there: deferral rate, quality and cost. A "
    "report has all of them, one more than there are pictures.",
    "trade-off curve": "Quality against cost over all operating points, from the student alone to the "
    "teacher on every picture.",
    "quality": "What counts as good: AP of detectors, accuracy of classifiers.",
    "AP": "Average precision, the quality of a detector from 0 to 1: the area under precision against "
    "recall, averaged over classes and over how well boxes must overlap (0.50 to 0.95), as COCO defines it. "
    "AP50 and AP75 ask for one overlap alone.",
    "accuracy": "The share of pictures whose class is named rightly.",
    "MACs": "Multiply-adds an image: how much a network computes, whatever machine it runs on. One "
    "multiply-add is 1; GMACs are thousands of millions of them.",
    "latency": "Milliseconds an image, measured on one machine. The pair's is the mean: the student's time "
    "on every picture and the teacher's on those that it sees.",
    "coin": "Random deferral: as many pictures go to the teacher, but which ones is left to chance. A score "
    "that does no better than a coin knows nothing of the student's mistakes.",
    "oracle": "Deferral in hindsight: the pictures whose teacher's answer helps most go first. No router "
    "can know that; it shows how much room is left.",
    "coin to oracle": "How far a score gets from a coin (0 %) to the oracle (100 %), over all deferral "
    "rates.",
    "hull": "What single models mixed at random reach at each cost: the upper edge of student, teacher and "
    "any further model that was named. A pair is worth its while only above it.",
    "margin": "The pair's quality minus that of the hull at the same cost. It decides whether the pair pays.",
    "G": "Share of the gap recovered: 0 % is the student's quality, 100 % the teacher's.",
    "area": "The mean quality over all deferral rates; compares scores without choosing a threshold.",
    "interval": "How far chance in the choice of pictures may have moved a number: 95 of 100 such intervals "
    "hold the true one. From resampling the pictures at hand (bootstrap). A difference whose interval "
    "includes 0 may be chance.",
    "calibration part": "Pictures that chose router and threshold. None of the reported numbers comes from "
    "them.",
    "out of fold": "Said of a score's value for a picture that did not take part in fitting it: the pictures "
    "are split, and each part is scored by what was fitted on the others.",
    "certificate": "A threshold that keeps its promise on new pictures of the same kind with a stated "
    "probability, such as 95 %, not merely on average.",
    "logits": "A network's raw outputs, one number a class, before they become probabilities.",
    "energy": "-logsumexp of the student's logits: low where some class stands out, high where none does. "
    "EBJR, the method behind this tool, routes by it.",
    "curvature": "How much the energy bends; of a detector the sum of p(1 - p) over all boxes and classes, "
    "of a classifier 1 - sum p^2. High where much hangs in doubt.",
    "class weights": "How much a class counts in a deferral score, so that doubt where the teacher helps "
    "most weighs most.",
    "rescaling": "A map that makes the student's confidences comparable with the teacher's; detections of "
    "both are ranked together.",
    "drift": "How far the values of a score have moved since its router was fitted. Where they have, the "
    "threshold defers another share than it was chosen for.",
    "specialised student": "A student that tells the popular classes apart and calls everything else "
    "other, which goes to the teacher.",
}
