"""Mixed ops: built-in components, one module each."""
