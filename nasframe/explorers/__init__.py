"""Explorers: built-in components, one module each."""
