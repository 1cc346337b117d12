"""The command fastoptim, where the terminal is not UTF-8."""

import os
import subprocess
import sys


def test_letters_that_the_terminal_does_not_have():
    """In the locale C the demonstration's µ and × cannot be printed."""
    code = """if True:
        import fastoptim
        from fastoptim.demo import cli
        fastoptim.show_runtime = lambda: print("\\xb5s, 3\\xd7")
        raise SystemExit(cli.main(["info"]))
    """
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "\\xb5s, 3\\xd7\n", "")
