"""``python -m labelleaks``."""

from labelleaks.cli.main import main

main()
