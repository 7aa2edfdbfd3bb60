"""`python -m attar` is the command line too."""

from attar.cli.app import main

if __name__ == "__main__":
    main()
