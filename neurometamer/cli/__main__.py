"""Run the command line as ``python -m neurometamer.cli``."""

from neurometamer.cli.app import main

if __name__ == "__main__":
    main()
