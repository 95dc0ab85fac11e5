"""The documents that are made from the code say what the code says."""

import pytest

from devkit import ROOT
from devkit.generate.docs import PAGES


@pytest.mark.parametrize("path", PAGES)
def test_the_page_is_as_the_code(path: str) -> None:
    assert (ROOT / path).read_text() == PAGES[path](), "run `make generate`"
