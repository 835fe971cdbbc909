"""Trainers: built-in components, one module each."""
