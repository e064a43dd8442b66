"""Windows hosts of the sandbox: files, services, scheduled tasks, the Tentacle program and what it serves."""
