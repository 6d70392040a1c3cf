"""Starts, keeps and stops the real parts on one machine, without Docker, root or an installed Java."""
