"""The entry point of softlan.exe."""

from softlan.cli.main import main

main()
