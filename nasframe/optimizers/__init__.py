"""Optimizers: built-in components, one module each."""
