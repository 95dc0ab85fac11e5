"""Pauses intake while something that jobs need is not to be had: CC-FS, the volume, file descriptors."""
