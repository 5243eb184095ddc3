"""`python -m atlas` is `atlas`."""

from atlas.cli import run

if __name__ == "__main__":
    run()
