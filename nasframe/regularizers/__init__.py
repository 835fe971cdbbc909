"""Regularizers: built-in components, one module each."""
