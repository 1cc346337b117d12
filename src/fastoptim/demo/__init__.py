"""The demonstration that the command ``fastoptim demo`` runs."""
