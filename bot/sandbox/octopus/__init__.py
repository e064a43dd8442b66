"""A sandbox Octopus Server: its REST API with its traps, its tasks, and health by real handshakes."""
