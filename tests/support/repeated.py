"""Something that is done again and again in a thread of its own, and whose failure is told."""

import threading
from typing import Self


class Repeated:
    """Subclasses say what by `look`; `with` starts and ends it."""

    name = "repeated"
    look_seconds = 0.1

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)

    def look(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(30)
        if self._failure is not None:
            raise AssertionError(f"the played {self.name} has failed") from self._failure

    def _run(self) -> None:
        try:
            while not self._stopped.wait(self.look_seconds):
                self.look()
        except BaseException as e:  # noqa: BLE001  told to the test
            self._failure = e
