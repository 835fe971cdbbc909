"""Trackers: built-in components, one module each."""
