"""Spaces: built-in components, one module each."""
