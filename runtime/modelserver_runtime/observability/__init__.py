"""What operators see of the server from outside: other names of metrics, the machine, traces."""
