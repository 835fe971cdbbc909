"""Executors: built-in components, one module each."""
