"""Strict settings: frozen dataclasses with checked fields, read from YAML files and `--a.b value` overrides."""
