"""The decoder of our own for processors: `decoder.c`, and what stands around it."""
