"""The same job as the worker's, done with other frameworks; runs in an environment of its own.

All give the guarantees that the worker gives: a signed request, a hidden temporary file, SHA-256, a check
of every entry of the zip, fsync of file and directory around the rename, a mandatory and confirmed result,
and the job acknowledged last. Each is written as its documentation teaches; what does not belong to a
framework, the download itself, is shared.
"""
