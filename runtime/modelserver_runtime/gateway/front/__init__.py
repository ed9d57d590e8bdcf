"""The gateway's front: one door for all models of a cluster."""
