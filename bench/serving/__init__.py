"""What `bench.runtime` is made of: the model, the engines that serve it, the client, the figures."""
