"""Cli: built-in components, one module each."""
