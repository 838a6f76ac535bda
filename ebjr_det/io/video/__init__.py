"""Videos and cameras decoded frame by frame, and H.264 files written; the only room that knows PyAV.

Convention: a frame is a PIL picture in RGB as a player shows it; frames count from 1 in messages; a time is
the second from the source's start, exact. Knows nothing about what is in the frames.
"""
