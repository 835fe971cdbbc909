"""How results become pages: style, charts, drawings, and words."""
