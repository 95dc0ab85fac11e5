"""URLs with a login in them: where its password ends, and how one is shown. Pure."""

import re

from yarl import URL

MASK = "***"

_AUTHORITY_ENDS = re.compile(r"[/?#]")
_SHOWABLE = re.compile(r"([^/?#@]*://[^/?#@:]*)(:[^/?#@]*)?(@[^@]*)")


def has_stray_at(url: str) -> bool:
    """Whether a URL has an `@` in the wrong place, which makes the end of its login ambiguous.

    The authority ends at the first `/`, `?` or `#` (RFC 3986, section 3.2): one of these in a password makes
    what follows it a path, which is shown.
    """
    authority, *rest = _AUTHORITY_ENDS.split(url.partition("://")[2], maxsplit=1)
    return authority.count("@") > 1 or any("@" in part for part in rest)


def masked(url: str) -> str:
    """Hide the password of a URL, and the whole of what has no clear place for one.

    Args:
        url: As it was written, valid or not; it may list several hosts.
    """
    if login := _SHOWABLE.fullmatch(url):
        before, password, after = login.groups()
        return f"{before}{f':{MASK}' if password else ''}{after}"
    return url if "@" not in url and _has_host(url) else MASK


def _has_host(url: str) -> bool:
    try:
        return bool(URL(url).host)
    except ValueError:
        return False
