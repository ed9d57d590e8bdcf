"""Reports what is: conditions, diagnosis, progress."""
