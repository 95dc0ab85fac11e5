"""Show the worker at work, and count what came of it."""
