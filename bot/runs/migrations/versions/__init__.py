"""Versions of the schema, one module each."""
