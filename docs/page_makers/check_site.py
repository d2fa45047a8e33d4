"""Check of the built site: pages load nothing from elsewhere, and every link within the site leads to a page.

python docs/page_makers/check_site.py site
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["problems"]

_LOADED = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "srcset"), ("video", "src")}
_ADDRESS = re.compile(r"url\(\s*['\"]?(?:https?:)?//|@import\s+['\"]?https?://")


class _Page(HTMLParser):
    """Reader of a page: what it loads, where its links lead, and the ids in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids.update(given[name] for name in ("id", "name") if name in given)
        if tag == "link" and given.get("rel") not in ("canonical", "prev", "next", "alternate"):
            self.loaded.append(given.get("href", ""))
        self.loaded += [given[name] for where, name in _LOADED if where == tag and name in given]
        if tag == "a" and "href" in given:
            self.links.append(given["href"])


def problems(site: Path) -> Iterator[str]:
    """Yield a line for each address that a page loads from elsewhere, and for each link that leads nowhere."""
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    if not pages:
        yield f"{site} has no pages: build the site first."
    for path, page in pages.items():
        name = path.relative_to(site).as_posix()
        yield from (f"{name} loads {address}" for address in page.loaded if urlsplit(address).netloc)
        if path.name == "404.html":
            continue  # its links begin at the address of the site
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                yield f"{name} links to {link}, which is not there"
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
                yield f"{name} links to {link}, and there is no such place on that page"
    for path in sorted(site.rglob("*.css")):
        if _ADDRESS.search(path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(site).as_posix()} loads from elsewhere"


def main() -> int:
    """Print the problems of the site in a folder; 1 if there are any."""
    found = list(problems(Path(sys.argv[1]).resolve()))
    print("\n".join(found) if found else "the site loads nothing from elsewhere, and its links lead somewhere")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
