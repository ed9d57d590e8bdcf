"""The command line of ModelServers: `modelserver`, which is also `kubectl modelserver`."""
