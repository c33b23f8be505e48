"""The streams of the command ``saman``: everything that it prints is cleaned."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import IO, Any, TextIO, cast

from saman.configs.terminal_text import clean_text


class _CleanStream:
    """A text stream that cleans what is written to it."""

    def __init__(self, stream: TextIO) -> None:
        self.own = stream

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            return self.own.write(text)  # raises as the stream does
        self.own.write(clean_text(text))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.own, name)


@contextlib.contextmanager
def clean_streams() -> Iterator[None]:
    """Clean everything that this process prints until the block ends."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, _CleanStream(stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def own_stream(stream: IO[str]) -> IO[str]:
    """Return the uncleaned stream for a live line; its texts must be cleaned beforehand."""
    return stream.own if isinstance(stream, _CleanStream) else stream
