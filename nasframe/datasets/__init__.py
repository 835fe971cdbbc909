"""Datasets: built-in components, one module each."""
