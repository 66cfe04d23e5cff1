"""The command line: `isthmus COMMAND ...`, heavy libraries wait until a command needs them."""

from isthmus.cli.app import main

__all__ = ["main"]
