"""Runs the command line as `python -m maskwire_client.cli`."""

from .application import main

if __name__ == "__main__":
    main()
