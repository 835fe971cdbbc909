"""Ops: built-in components, one module each."""
