"""Scores: built-in components, one module each."""
