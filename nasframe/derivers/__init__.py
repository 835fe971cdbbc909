"""Derivers: built-in components, one module each."""
