"""Trains the small chat model of the quickstart."""
