"""Whether this machine can run the native engine: it needs certain processors, and a compiler."""

import pytest

from modelserver_runtime.backends.native import library


def _why_not() -> str:
    try:
        library.load()
    except library.DecoderUnavailable as error:
        return str(error)
    return ""


needs_native_engine = pytest.mark.skipif(bool(_why_not()), reason=_why_not() or "it can")
