"""How many pods serve, who decides it, and whether none do: without I/O and without a clock."""
