"""Input checks and their messages.

Ordinary arrays never come here, so these functions may be slow and explicit.
"""
