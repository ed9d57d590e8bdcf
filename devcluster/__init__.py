"""A real Kubernetes on a bare Linux machine, for the demo and the tests."""
