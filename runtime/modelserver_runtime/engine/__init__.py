"""Queues, schedules and drains; knows no tensors."""
