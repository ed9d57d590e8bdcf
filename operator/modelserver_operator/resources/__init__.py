"""Makers of child objects: pure functions from a ModelServer to manifests."""
