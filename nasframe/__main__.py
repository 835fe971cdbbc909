"""``python -m nasframe`` is the command line."""

from nasframe.cli import main

main()
