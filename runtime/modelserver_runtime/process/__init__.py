"""What every process that serves does: listens, hears signals, ends without losing a request."""
