"""What the project needs to run and test itself; no part of it is distributed."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The repository."""
