"""The demo's one error."""


class DemoFailure(Exception):
    """A step failed; the message says what was expected, what was found and what to do."""
