"""octocert: rotates the certificates of Octopus Deploy from Slack, with an approval before anything stops."""

__version__ = "0.1.0"
