"""Schedules: built-in components, one module each."""
