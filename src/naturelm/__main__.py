"""`python -m naturelm`."""

from naturelm.cli import main

if __name__ == "__main__":
    main()
