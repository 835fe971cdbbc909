"""Penalties: built-in components, one module each."""
