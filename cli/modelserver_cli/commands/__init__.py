"""The commands: each reads the cluster, lets pure code make a picture of it, and shows that."""
