"""Pictures of what the rules do: what the command ``fastoptim gallery`` draws.

Each file in pictures/ is one picture, and is shown beside it as the code that makes it, so it reads
like a script of a user. Its docstring is the title and the caption, and says what to see. Numbers
in braces are those that ``draw`` returns beside the figure, so a caption cannot say what was not
measured. catalogue.py has their order, page.py makes index.html.
"""
