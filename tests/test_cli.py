"""The command fastoptim, where the terminal is not UTF-8."""

from helpers import run_code


def test_letters_that_the_terminal_does_not_have():
    """In the locale C the demonstration's µ and × cannot be printed."""
    code = """
        import fastoptim
        from fastoptim.cli import main as cli
        fastoptim.show_runtime = lambda: print("\\xb5s, 3\\xd7")
        raise SystemExit(cli.main(["info"]))
    """
    done = run_code(code, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout, done.stderr) == (0, "\\xb5s, 3\\xd7\n", "")
