"""Rollouts that are only reckoned: traffic that is drawn, and rules that judge it."""
