"""What each command does, as a function: files in, files out.

`neurometamer.cli` parses, calls and prints.
"""
