"""Resolves and fetches model artefacts."""
