"""What the project needs to run and test itself; no part of it is distributed."""
