"""Exporters: built-in components, one module each."""
