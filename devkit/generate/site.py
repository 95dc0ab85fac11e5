"""Lay out the pages of the documentation's site for mkdocs: `python -m devkit.generate.site`.

The documents link to each other, and to code, by their places in the repository. The site keeps these places
for pages and pictures. Links to anything else lead to the repository on the forge.
"""

import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from devkit import ROOT
from schemas.documents import CONTRACT_VERSION

PAGES = ROOT / ".run" / "site-pages"

_ROOT_PAGES = ("CHANGELOG.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "SECURITY.md", "helm/README.md")
_SHOWN = {".md", ".png", ".svg"}
_LINK = re.compile(r"(\]\()([^)#:\s]+)((?:#[^)\s]*)?\))")


def sources() -> Iterator[tuple[Path, PurePosixPath]]:
    """Return each file of the site with its place there."""
    yield ROOT / "README.md", PurePosixPath("index.md")
    for name in _ROOT_PAGES:
        yield ROOT / name, PurePosixPath(name)
    for path in sorted((ROOT / "docs").rglob("*")):
        if path.suffix in _SHOWN:
            yield path, PurePosixPath(path.relative_to(ROOT))
    yield ROOT / "schemas/asyncapi.yaml", PurePosixPath("schemas/asyncapi.yaml")
    # Where the schemas' `$id` says that they are.
    for path in sorted((ROOT / "schemas/json").glob("*.json")):
        yield path, PurePosixPath("schemas") / CONTRACT_VERSION / path.name


def page(path: Path, places: dict[Path, PurePosixPath], forge: str) -> str:
    """Read a page, and change its links so that they work on the site.

    Args:
        path: The page, in the repository.
        places: Each file of the site, and its place there.
        forge: Where the repository's files are shown.
    """
    up = "../" * (len(places[path].parts) - 1)

    def moved(link: re.Match[str]) -> str:
        target = (path.parent / link[2]).resolve()
        if target in places:
            return f"{link[1]}{up}{places[target]}{link[3]}"
        return f"{link[1]}{forge}{target.relative_to(ROOT)}{link[3]}"

    return _LINK.sub(moved, path.read_text())


def main() -> None:
    """Empty the folder, and write every page into it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    forge = f"{project['urls']['Source']}/blob/main/"
    places = dict(sources())
    shutil.rmtree(PAGES, ignore_errors=True)
    for path, place in places.items():
        target = PAGES / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            target.write_text(page(path, places, forge))
        else:
            shutil.copyfile(path, target)


if __name__ == "__main__":
    main()
