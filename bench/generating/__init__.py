"""What `python -m bench.engine` is made of."""
