"""Algorithms: built-in components, one module each."""
