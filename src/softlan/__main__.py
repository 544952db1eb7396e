"""``python -m softlan``."""

from softlan.cli.main import main

main()
