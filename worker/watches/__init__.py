"""Pauses intake while something that jobs need is unavailable: CC-FS, the volume, file descriptors."""
