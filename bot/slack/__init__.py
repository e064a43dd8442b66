"""Slack: every message as a pure function, and the notifier that posts and edits them."""
