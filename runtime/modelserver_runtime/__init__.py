"""The ModelServer runtime."""

__version__ = "0.1.0"
