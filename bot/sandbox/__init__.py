"""A working estate on this machine: Slack, an Octopus Server and Windows hosts, for demo, tests and benchmark."""
