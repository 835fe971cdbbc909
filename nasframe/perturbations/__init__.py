"""Perturbations: built-in components, one module each."""
