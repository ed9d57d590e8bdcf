"""What stands between the socket and the engine, measured on real server processes."""
