"""The command line, built from the functions of `neurometamer.commands`: parse, call, print."""

from neurometamer.cli.app import COMMANDS, main

__all__ = ["COMMANDS", "main"]
