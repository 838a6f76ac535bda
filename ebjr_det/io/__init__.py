"""The outside world: files, records, checkpoints, pictures, videos, downloads, the machine."""
