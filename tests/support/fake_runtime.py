"""`python -m support.fake_runtime STEP_SECONDS [LOAD_SECONDS]`: the real server without torch.

The model has no weights, and answers at a known speed.
"""

import sys
import time
from typing import Any

from modelserver_runtime.app.server import serve
from modelserver_runtime.backends.base import LoadedModel
from modelserver_runtime.process.listening import listen
from modelserver_runtime.settings import load_settings
from support.fake_model import CountingBackend, fake_model


def main(step_seconds: float, load_seconds: float = 0) -> None:
    def load(*_: Any) -> LoadedModel:
        time.sleep(load_seconds)
        return fake_model(CountingBackend(step_seconds))

    settings = load_settings()
    serve(settings, listen(settings.host, 0), load, lambda line: print(line, flush=True))


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
