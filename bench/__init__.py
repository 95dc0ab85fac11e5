"""The benchmark: the worker beside curl, the bare broker and its peers, in one run on one machine."""
