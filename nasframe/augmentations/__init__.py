"""Augmentations: built-in components, one module each."""
