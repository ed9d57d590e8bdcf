"""Mixed load for a long time, in which every answer is known beforehand."""
