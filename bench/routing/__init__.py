"""What the router adds."""
