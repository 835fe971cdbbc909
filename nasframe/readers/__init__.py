"""Readers: built-in components, one module each."""
