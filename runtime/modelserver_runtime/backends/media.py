"""Images and sound from the bytes that a client sent, and back to bytes."""

import base64
import io
from typing import Any

import numpy as np
import soundfile
from PIL import Image, UnidentifiedImageError

from modelserver_runtime.errors import InvalidRequest

# A picture of few bytes may unpack to gigabytes.
MOST_PIXELS = 64_000_000
# Half an hour of sound at 16 kHz.
_MOST_SECONDS = 1800


def read_image(content: bytes) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(content))
        if image.width * image.height > MOST_PIXELS:
            raise InvalidRequest(
                f"The image has {image.width} x {image.height} pixels; at most "
                f"{MOST_PIXELS // 1_000_000} million are accepted",
                param="inputs",
            )
        return image.convert("RGB")
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        OSError,
        SyntaxError,
        ValueError,
    ) as error:
        raise InvalidRequest(
            f"The input is no image that can be read ({len(content)} bytes); send PNG or JPEG",
            param="inputs",
        ) from error


def read_sound(content: bytes, sampling_rate: int) -> dict[str, Any]:
    """One channel of float32 at the sampling rate that the model was trained with."""
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as sound:
            _require_short(sound)
            samples, rate = sound.read(dtype="float32", always_2d=True), sound.samplerate
    except (soundfile.LibsndfileError, ValueError, TypeError) as error:
        raise InvalidRequest(
            f"The input is no sound that can be read ({len(content)} bytes); send WAV, FLAC or OGG",
            param="inputs",
        ) from error
    mono = samples.mean(axis=1)
    return {"raw": _resample(mono, rate, sampling_rate), "sampling_rate": sampling_rate}


def _require_short(sound: soundfile.SoundFile) -> None:
    seconds = sound.frames / sound.samplerate
    if not 0 < seconds <= _MOST_SECONDS:
        raise InvalidRequest(
            f"The sound lasts {seconds:.1f} s; it must be longer than 0 and at most "
            f"{_MOST_SECONDS} s",
            param="inputs",
        )


def _resample(samples: np.ndarray[Any, Any], rate: int, wanted: int) -> np.ndarray[Any, Any]:
    """By cutting or padding the spectrum: exact for band-limited sound."""
    if rate == wanted:
        return samples
    count = max(1, round(len(samples) * wanted / rate))
    spectrum = np.fft.rfft(samples)
    resampled = np.fft.irfft(spectrum[: count // 2 + 1], n=count)
    return (resampled * (count / len(samples))).astype(np.float32)


def blank_image() -> bytes:
    """A white picture as PNG, for warm-up."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "white").save(buffer, format="PNG")
    return buffer.getvalue()


def silence() -> bytes:
    """A second of silence as WAV, for warm-up."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(16_000, dtype=np.float32), 16_000, format="WAV")
    return buffer.getvalue()


def png_base64(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def wav_base64(audio: np.ndarray[Any, Any], sampling_rate: int) -> str:
    """Of float samples, a row for each channel."""
    buffer = io.BytesIO()
    soundfile.write(buffer, audio.astype(np.float32).T, sampling_rate, format="WAV")
    return base64.b64encode(buffer.getvalue()).decode()
