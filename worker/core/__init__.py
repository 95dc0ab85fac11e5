"""Decides: what a job asks for, when it runs, what follows. No I/O library and no settings in here."""
