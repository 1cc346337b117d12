"""Input checks and their messages.

Ordinary arrays never come here, so these functions may be slow and explicit: the fast paths
(intake.pyx, workspace.pyx) let them pass by their flags and addresses alone.
"""
