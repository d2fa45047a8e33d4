"""Pictures of the README and the site, made from the real pages in Chromium: `make screenshots`.

Needs Chromium and its driver from the system, and the extras `browser`, `server` and `plots` (Pillow comes with the
last one). Each page is taken in light and in dark colours, and kept as WebP in `docs/assets`.
"""

from __future__ import annotations

import io
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver

ASSETS = Path(__file__).parents[1] / "assets"
_WIDTH, _HEIGHT = 1180, 820


def main() -> None:
    """Take all pictures."""
    with tempfile.TemporaryDirectory() as name, _browser(Path(name) / "profile") as driver:
        folder = Path(name)
        for agent in ("rule", "majority"):
            _sdar("eval", "sdar/WebShop-v0", "--agent", agent, "--limit", "100", "--out", str(folder / agent))
        both = folder / "both.html"
        _sdar("report", str(folder / "rule"), str(folder / "majority"), "--out", str(both))
        _take(driver, both.as_uri(), "report")
        with _served("serve", "webshop", "--port", "{port}") as address:
            _take(driver, _shop_page(driver, address), "shop")
        with _served("view", str(folder / "rule"), "--port", "{port}") as address:
            driver.get(address)
            _take(driver, driver.find_element("css selector", "table a").get_attribute("href"), "viewer")


def _sdar(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "sdar_benchmarks.cli", *arguments], check=True, stdout=subprocess.DEVNULL)


@contextmanager
def _served(*arguments: str) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [argument.format(port=port) for argument in arguments]
    server = subprocess.Popen([sys.executable, "-m", "sdar_benchmarks.cli", *command], stdout=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}/"
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(address, timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        yield address
    finally:
        server.terminate()
        server.wait()


@contextmanager
def _browser(profile: Path) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    flags = ("headless", "no-sandbox", "disable-gpu", "hide-scrollbars", "disable-dev-shm-usage", "no-first-run")
    for flag in (*flags, f"user-data-dir={profile}", f"window-size={_WIDTH},{_HEIGHT}"):
        options.add_argument(f"--{flag}")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def _shop_page(driver: Any, address: str) -> str:
    """Return the address of a page of results in the shop."""
    driver.get(f"{address}start?split=test&number=1")
    box = driver.find_element("css selector", "#search_input")
    box.send_keys("comfortable mens boots with leather upper")
    box.submit()
    time.sleep(1)
    url: str = driver.current_url
    return url


def _take(driver: Any, address: str, name: str) -> None:
    """Take a page in light and in dark colours."""
    for colours in ("light", "dark"):
        driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": colours}]}
        )
        driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": _WIDTH, "height": _HEIGHT, "deviceScaleFactor": 1.5, "mobile": False},
        )
        driver.get(address)
        time.sleep(0.5)
        picture = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
        picture.save(ASSETS / f"{name}-{colours}.webp", quality=80, method=6)


if __name__ == "__main__":
    main()
