"""The demo: from nothing to an answer of a model, on a cluster of ours or on yours."""
