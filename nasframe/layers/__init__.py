"""Layers that map features, one file a sort."""
