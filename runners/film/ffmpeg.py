"""Writes films: pipes frames to ffmpeg and creates files atomically."""

import errno
import os
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from rfwp.runners.film.canvas import Pixels
from rfwp.runners.machine.errors import UserError


class Mp4:
    """A film in H.264 and yuv420p, which browsers and slide programs play, at the full frame rate.

    Takes frames while entered. Finishes the film on a normal exit, and drops it on an error.
    """

    option = "video"  # that requests such a film
    joined = 1  # frames per frame of the film
    suffix = ".mp4"  # of the file written while frames arrive
    options: tuple[str, ...] = (
        *("-c:v", "libx264", "-crf", "20", "-pix_fmt", "yuv420p", "-movflags", "+faststart"),
        *("-vf", "scale=out_color_matrix=bt709:out_range=tv"),
        *("-colorspace", "bt709", "-color_range", "tv"),
    )

    def __init__(self, path: Path, size: tuple[int, int], frames_per_second: int) -> None:
        self.path = path
        self._size = size
        self._rate = f"{frames_per_second}/{self.joined}"
        self._stream = self._hidden(self.suffix)

    def write(self, image: Pixels) -> None:
        """Add a frame [height, width, 3]. Raise UserError if the disk is full."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(np.ascontiguousarray(image).data)
        except BrokenPipeError:
            self._await()
            raise self._error("", self._process.returncode) from None

    def __enter__(self) -> Self:
        width, height = self._size
        self.path.parent.mkdir(exist_ok=True)
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        self._process = subprocess.Popen(
            _ffmpeg(
                *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", self._rate, "-i", "-"),
                *(*self.options, str(self._stream)),
            ),
            stdin=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,  # Ctrl-C must not reach ffmpeg; we end it
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._close()
                self._await()
                self._complete()
        finally:
            self._process.kill()
            self._close()
            self._process.wait()
            self._log.close()
            for path in self.path.parent.glob(self._hidden("*").name):
                path.unlink()

    def _close(self) -> None:
        """Tell ffmpeg that there are no more frames, if it still runs."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()

    def _complete(self) -> None:
        """Make the film from the stream that ffmpeg wrote."""
        self._stream.rename(self.path)

    def _await(self) -> None:
        """Wait for ffmpeg to finish. Raise UserError if it failed."""
        if self._process.wait() != 0:
            self._log.seek(0)
            raise self._error(self._log.read(), self._process.returncode)

    def _run(self, *words: str) -> None:
        """Run ffmpeg once more."""
        done = subprocess.run(
            _ffmpeg(*words), capture_output=True, encoding="utf-8", errors="replace", start_new_session=True
        )
        if done.returncode != 0:
            raise self._error(done.stderr, done.returncode)

    def _error(self, log: str, code: int) -> UserError:
        lines = log.strip().splitlines() or [f"ffmpeg ended with exit code {code}"]
        cause = next((line for line in lines if os.strerror(errno.ENOSPC) in line), lines[-1])
        return UserError(f"{self.option}: cannot write {str(self.path)!r}: {cause.rpartition(': ')[2]}")

    def _hidden(self, suffix: str) -> Path:
        return self.path.with_name(f".unfinished-{self.path.name}{suffix}")


class Gif(Mp4):
    """The same film for a README: at most 30 frames a second, 800 pixels wide, with its own palette of 128 colours.

    GIFs count in 1/100 s, and browsers slow anything above 50 frames a second down to 10. Of a faster film, each frame
    is the brighter of two, because flickering sprites appear only in every other frame. The palette needs the whole
    film, so the film waits on disk, lossless, rather than in memory.
    """

    option = "gif"
    suffix = ".mkv"
    options = ("-c:v", "libx264rgb", "-qp", "0", "-preset", "ultrafast")
    width = 800
    most = 30  # frames a second

    def __init__(self, path: Path, size: tuple[int, int], frames_per_second: int) -> None:
        self.joined = 2 if frames_per_second > self.most else 1
        super().__init__(path, size, frames_per_second)
        self._first: Pixels | None = None  # of two frames

    def write(self, image: Pixels) -> None:
        if self.joined == 1:
            super().write(image)
        elif self._first is None:
            self._first = image.copy()
        else:
            super().write(np.maximum(self._first, image))
            self._first = None

    def _complete(self) -> None:
        source, palette, film = str(self._stream), self._hidden(".png"), self._hidden(".gif")
        small = f"scale={min(self.width, self._size[0])}:-1:flags=area"
        self._run("-i", source, "-vf", f"{small},palettegen=max_colors=128", str(palette))
        use = f"[0:v]{small}[film];[film][1:v]paletteuse=dither=none:diff_mode=rectangle"
        self._run("-i", source, "-i", str(palette), "-lavfi", use, str(film))
        film.rename(self.path)


def _ffmpeg(*words: str) -> list[str]:
    """Return the command of imageio-ffmpeg's ffmpeg; it overwrites files and prints errors only."""
    import imageio_ffmpeg  # needed for films only

    return [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-nostdin", "-v", "error", *words]
