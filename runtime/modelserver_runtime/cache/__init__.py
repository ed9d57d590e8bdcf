"""Answers that are known: keys, memory, single-flight, and Redis behind them."""
