"""Frames of videos and of animated images."""

import io
import itertools
import math
from typing import Any

import av
import numpy as np
from PIL import Image, ImageSequence, UnidentifiedImageError

from modelserver_runtime.backends.media import MOST_PIXELS
from modelserver_runtime.errors import InvalidRequest


def read_frames(content: bytes, wanted: int) -> list[Image.Image]:
    """As many frames as are wanted, evenly from a whole video; a short one shows some twice."""
    frames = _animation(content) or _decoded(content)
    if not frames:
        raise InvalidRequest(
            f"The input is no video that can be read ({len(content)} bytes); send MP4, WebM or GIF",
            param="inputs",
        )
    places = np.linspace(0, len(frames) - 1, num=wanted).round().astype(int)
    return [frames[place] for place in places]


def _animation(content: bytes) -> list[Image.Image]:
    """Frames of an animated image; none if it is no image."""
    try:
        image = Image.open(io.BytesIO(content))
        _require_few_pixels(image.width * image.height * getattr(image, "n_frames", 1))
        return [frame.convert("RGB") for frame in ImageSequence.Iterator(image)]
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError):
        return []


def _decoded(content: bytes) -> list[Image.Image]:
    """Frames of a video; every one that fits into the limit of pixels, evenly spread."""
    try:
        with av.open(io.BytesIO(content), "r") as container:
            stream = container.streams.video[0]
            pixels = stream.width * stream.height
            _require_few_pixels(pixels)
            step = math.ceil(max(1, (stream.frames or 1) * pixels / MOST_PIXELS))
            kept = itertools.islice(container.decode(stream), 0, None, step)
            fitting: Any = itertools.islice(kept, MOST_PIXELS // pixels)
            return [frame.to_image() for frame in fitting]
    except (av.error.FFmpegError, IndexError, ValueError):
        return []


def _require_few_pixels(pixels: int) -> None:
    if pixels > MOST_PIXELS:
        raise InvalidRequest(
            f"The input has {pixels} pixels; at most {MOST_PIXELS // 1_000_000} million are "
            "accepted",
            param="inputs",
        )
