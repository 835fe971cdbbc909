"""Costs: built-in components, one module each."""
