"""Tells what is wrong with a ModelServer: evidence, a chain of small checks, a code with a hint.

chain ── objects, placement, waiting, ending ── evidence, containers ── codes, hints, finding
"""
