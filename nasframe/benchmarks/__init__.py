"""Benchmarks: built-in components, one module each."""
