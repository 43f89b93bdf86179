"""`python -m bype`."""

from bype.cli import main

if __name__ == "__main__":
    main()
