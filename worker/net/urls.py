"""URLs that hold a login: where the password ends, and how to show them without it. Pure."""

import re
from urllib.parse import quote

from yarl import URL

MASK = "***"

_AUTHORITY_ENDS = re.compile(r"[/?#]")
_SHOWABLE = re.compile(r"([^/?#@]*://[^/?#@:]*)(:[^/?#@]*)?(@[^@]*)")


def has_stray_at(url: str) -> bool:
    """Whether a URL has an `@` in a wrong place, which makes it unclear where its login ends.

    The authority ends at the first `/`, `?` or `#` (RFC 3986, section 3.2). With one of these in a password,
    the rest of it is taken for a path, and shown.
    """
    authority, *rest = _AUTHORITY_ENDS.split(url.partition("://")[2], maxsplit=1)
    return authority.count("@") > 1 or any("@" in part for part in rest)


def of_each_host(url: str) -> list[str]:
    """Give a URL for each host of one that lists several: `amqp://user:password@h1:5672,h2/vhost`.

    Login and path are the same for all. Where the list is wrong, so is one of the URLs.
    """
    scheme, login, hosts, path = _parts(url)
    return [f"{scheme}{login}{host}{path}" for host in hosts.split(",")]


def with_login(url: str, user: str | None, password: str | None) -> str:
    """Put another user, another password, or both into a URL, whatever characters they have.

    Args:
        url: It may list several hosts.
        user: None keeps the URL's own.
        password: None keeps the URL's own.
    """
    scheme, login, hosts, path = _parts(url)
    own_user, colon, own_password = login.removesuffix("@").partition(":")
    login = own_user if user is None else quote(user, safe="")
    login += f"{colon}{own_password}" if password is None else f":{quote(password, safe='')}"
    return f"{scheme}{login}{'@' if login else ''}{hosts}{path}"


def masked(url: str) -> str:
    """Hide the password of a URL, or all of it where the password has no clear place.

    Args:
        url: As it was written, valid or not; it may list several hosts.
    """
    if login := _SHOWABLE.fullmatch(url):
        before, password, after = login.groups()
        return f"{before}{f':{MASK}' if password else ''}{after}"
    return url if "@" not in url and _has_host(url) else MASK


def _parts(url: str) -> tuple[str, str, str, str]:
    """Split a URL into scheme, login, hosts and path, each with the characters that end it."""
    scheme, separator, rest = url.partition("://")
    end = _AUTHORITY_ENDS.search(rest)
    authority, path = (rest[: end.start()], rest[end.start() :]) if end else (rest, "")
    login, at, hosts = authority.rpartition("@")
    return scheme + separator, login + at, hosts, path


def _has_host(url: str) -> bool:
    try:
        return bool(URL(url).host)
    except ValueError:
        return False
