"""Decides what to do from what is observed."""
