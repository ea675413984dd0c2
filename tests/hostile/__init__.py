"""Hostile input to every command: a result or one line of error, nothing lost, no hang."""
