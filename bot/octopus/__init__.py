"""The Octopus Server as octocert sees it: its REST API, and what the command lines of its programs print."""
