"""Packaged weights, model cards and starting structures, read with importlib.resources."""
