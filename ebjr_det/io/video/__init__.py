"""Videos and cameras decoded frame by frame, and H.264 files written; the only room that knows PyAV.

Convention: a frame is a PIL picture in RGB as a player shows it; frames count from 1 in messages; a time is
the second from the source's start, exact. Knows nothing about what is in the frames.
"""

from ebjr_det.io.video.reading import CAMERAS, Footage, Shot, is_camera, open_camera, open_video
from ebjr_det.io.video.writing import VideoWriter, write_video

__all__ = [
    "CAMERAS",
    "Footage",
    "Shot",
    "VideoWriter",
    "is_camera",
    "open_camera",
    "open_video",
    "write_video",
]
