"""A clip for the demo from the embedded scenes of digits: one shot a scene, the camera slowly moving in it.

python eval/demo/make_clip.py runs/demo_clip.mp4
"""

import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from ebjr_det.io.video.writing import write_video
from ebjr_det.tasks.detection.datasets.digit_scenes import SIDE, draw_scene

SCENES, FPS, SHOT = 10, 25, 25  # frames a shot
WIDTH = 512
CLOSEST = 0.8  # share of the scene's side that the camera sees when it is nearest


def shots(scenes: int = SCENES) -> Iterator[Image.Image]:
    """The frames: in each scene the camera goes from the whole to a part of it, or back."""
    for index in range(scenes):
        generator = np.random.default_rng(index)
        scene = draw_scene("test", index)
        corner = generator.uniform(0, (1 - CLOSEST) * SIDE, 2)
        for frame in range(SHOT):
            near = frame / (SHOT - 1) if index % 2 else 1 - frame / (SHOT - 1)
            x, y = near * corner
            seen = SIDE * (1 - near * (1 - CLOSEST))
            box = (x, y, x + seen, y + seen)
            yield scene.resize((WIDTH, WIDTH), Image.Resampling.BICUBIC, box)


if __name__ == "__main__":
    with write_video(Path(sys.argv[1]), (WIDTH, WIDTH), Fraction(FPS)) as film:
        for picture in shots():
            film.add(picture)
