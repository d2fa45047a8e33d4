"""A real browser without a window, for tests; from the system, with the extra `browser`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

_CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
_DRIVER = shutil.which("chromedriver")

CAN_BROWSE = bool(_CHROMIUM and _DRIVER)


def open_browser(profile: Path, width: int = 1280, height: int = 900) -> Any:
    """Start a browser that logs what it complains of and what it asks for; `quit()` ends it."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = _CHROMIUM
    for flag in (
        "headless",
        "no-sandbox",
        "disable-gpu",
        "disable-quic",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "disable-dev-shm-usage",
        f"user-data-dir={profile}",
        f"window-size={width},{height}",
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(_DRIVER))
    driver.set_page_load_timeout(30)
    return driver


def leave(browser: Any, act: Callable[[], object]) -> None:
    """Do something that leads to another page, and wait until it does: what comes next would look at the old one."""
    from selenium.webdriver.support.expected_conditions import staleness_of
    from selenium.webdriver.support.ui import WebDriverWait

    page = browser.find_element("css selector", "html")
    act()
    WebDriverWait(browser, 20).until(staleness_of(page))
