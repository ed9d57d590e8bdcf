"""What the command line says instead of a result: one sentence, and what to do."""


class CommandFailed(Exception):
    """Ends a command with exit code 1."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
