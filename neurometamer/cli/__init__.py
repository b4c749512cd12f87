"""The command line: a module a group of commands; each parses, calls its Python twin and prints."""

from neurometamer.cli.app import app, main

__all__ = ["app", "main"]
