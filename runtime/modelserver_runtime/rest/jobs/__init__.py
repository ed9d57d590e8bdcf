"""What goes on without a client that waits: files, batches, background answers."""
