"""`python -m maskpack`."""

from maskpack.cli import main

if __name__ == "__main__":
    main()
