"""`python -m recsys` is the `recsys` command."""

from recsys.cli import run

if __name__ == "__main__":
    run()
