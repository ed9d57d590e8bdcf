"""Several models in one process: by name, each loaded once, as many as memory holds."""
