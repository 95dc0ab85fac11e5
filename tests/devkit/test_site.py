"""Pages of the site link to each other, and to the forge for all else; `make site` tests them for good."""

import re
from pathlib import PurePosixPath

import pytest

from devkit import ROOT
from devkit.generate.site import page, sources
from schemas.documents import CONTRACT_VERSION

FORGE = "https://forge.example/blob/main/"
PLACES = dict(sources())
PAGES = [path for path in PLACES if path.suffix == ".md"]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_link_of_a_page_leads_to_the_site_or_the_forge(path: PurePosixPath) -> None:
    text = page(ROOT / path, PLACES, FORGE)
    targets = set(re.findall(r"\]\(([^)#\s]+)", text))
    inside = {target for target in targets if "://" not in target}
    up = "../" * (len(PLACES[ROOT / path].parts) - 1)

    assert {target for target in inside if not is_place(target.removeprefix(up))} == set()
    linked = {target.removeprefix(FORGE) for target in targets if target.startswith(FORGE)}
    assert {target for target in linked if not (ROOT / target).exists()} == set()


def is_place(target: str) -> bool:
    return PurePosixPath(target) in PLACES.values()


def test_a_schema_is_where_its_id_says() -> None:
    assert is_place(f"schemas/{CONTRACT_VERSION}/DownloadJob.schema.json")


def test_each_page_is_in_the_menu() -> None:
    menu = (ROOT / "mkdocs.yml").read_text()
    places = [str(PLACES[path]) for path in PAGES]

    assert [place for place in places if not re.search(rf"[ ]{re.escape(place)}$", menu, re.MULTILINE)] == []
