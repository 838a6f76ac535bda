"""What stands around the frames of a film: who answered, the deferral score as it runs, and what it costs.

Draws with Pillow alone and knows only pictures, numbers and names; every frame of a film has one size.
"""

from ebjr_det.reporting.film.board import Board, Standing, view_for
from ebjr_det.reporting.film.chart import Moment, StripChart
from ebjr_det.reporting.film.ink import STUDENT, TEACHER

__all__ = ["STUDENT", "TEACHER", "Board", "Moment", "Standing", "StripChart", "view_for"]
