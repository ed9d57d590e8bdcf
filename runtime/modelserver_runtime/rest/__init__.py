"""HTTP: the only FastAPI code."""
