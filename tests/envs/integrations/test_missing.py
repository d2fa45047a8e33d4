"""Adapters without the packages that they are for: one line that says what to install."""

import importlib
import sys

import pytest

from sdar_envs.errors import MissingExtra


@pytest.mark.parametrize(("module", "package", "extra"), [("skyrl", "skyrl_gym", "skyrl"), ("verl", "verl", "verl")])
def test_the_extra_is_named(module, package, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"sdar_envs.integrations.{module}", raising=False)
    with pytest.raises(MissingExtra, match=rf"^the .* needs {package}, .*: pip install 'sdar-envs\[{extra}\]'$"):
        importlib.import_module(f"sdar_envs.integrations.{module}")
