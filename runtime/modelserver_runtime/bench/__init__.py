"""A small load generator, for a first honest look at a server of this kind."""
