"""``python -m skfisher`` is the command line."""

from skfisher.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    raise SystemExit(main())
