"""What the gateway of a cluster adds, beside other proxies."""
