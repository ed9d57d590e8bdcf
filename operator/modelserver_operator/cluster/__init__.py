"""The Kubernetes API: client, informers, lease, events."""
