"""The command ``fastoptim``: its grammar is in main.py, and each command has a file of its name.

A command's file has two functions. ``add(commands)`` adds its part of the grammar and sets ``run``.
``run(arguments)`` does the work and returns the exit status: 0, or 1 where a check failed, which is
what the command is for. It raises `Refused` where it cannot do what is asked (exit status 2).
Results go to stdout, progress and messages to stderr.
"""
