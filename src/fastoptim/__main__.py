"""``python -m fastoptim`` is the command ``fastoptim``, where that is not on the path."""

from fastoptim.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
