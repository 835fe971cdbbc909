"""Reports: built-in components, one module each."""
