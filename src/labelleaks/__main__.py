"""``python -m labelleaks``."""

from labelleaks.cli import main

main()
