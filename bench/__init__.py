"""Benchmarks: each is one command and writes one file of results."""
