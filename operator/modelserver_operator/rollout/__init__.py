"""Rollouts decided by evidence: pure, without I/O or a clock."""
