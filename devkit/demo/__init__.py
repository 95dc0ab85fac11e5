"""Shows the worker at work, and counts what came of it."""
