"""The imperative shell: queue, workers, one reconciliation."""
