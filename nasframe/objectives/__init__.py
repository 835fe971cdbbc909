"""Objectives: built-in components, one module each."""
