"""Recipe: built-in components, one module each."""
