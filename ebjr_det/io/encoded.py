"""Encoded pictures in memory."""

from io import BytesIO


class PictureBytes(BytesIO):
    """An encoded picture in memory, which errors call by its name, else by its size."""

    def __init__(self, content: bytes, name: str = "") -> None:
        super().__init__(content)
        self.title = name

    def __repr__(self) -> str:
        return self.title or f"picture of {self.getbuffer().nbytes} bytes"
