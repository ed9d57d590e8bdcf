"""The ModelServer runtime."""
