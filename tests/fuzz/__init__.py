"""Damaged, edited and harmful files for every reader: ``python -m tests.fuzz``."""
