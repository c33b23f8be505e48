"""``python -m saman`` is the same as the command ``saman``."""

from saman.cli.main import main

if __name__ == "__main__":
    main()
