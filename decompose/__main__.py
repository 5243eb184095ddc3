"""`python -m decompose` is `decompose`."""

from decompose.cli import run

if __name__ == "__main__":
    run()
