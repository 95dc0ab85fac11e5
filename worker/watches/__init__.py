"""Pauses intake while CC-FS, the volume, keys or file descriptors are unavailable; watches held accounts."""
