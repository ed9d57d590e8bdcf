"""What a command has of the outside: the terminal, the clock, chance."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from rich.console import Console
from rich.text import Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell:
    """`pause` waits so many seconds, and is ended by Ctrl-C; `token` is different each time."""

    console: Console
    now: Callable[[], datetime]
    pause: Callable[[float], None]
    token: Callable[[], str]
    read: Callable[[str], str]
    """The text of a file; of standard input where it is called `-`."""

    def say(self, lines: Iterable[Text | str]) -> None:
        for line in lines:
            self.console.print(line, soft_wrap=True, highlight=False, markup=False)

    def say_json(self, text: str) -> None:
        """As it is: a program reads it."""
        self.console.file.write(f"{text}\n")
        self.console.file.flush()

    @property
    def is_ascii_only(self) -> bool:
        return not self.console.encoding.lower().startswith("utf")
