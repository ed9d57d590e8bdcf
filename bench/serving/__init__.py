"""What `bench.runtime` is made of: the model, the engines, the client, the figures."""
