"""What is said of a published file that cannot be read."""

from __future__ import annotations


class PublishedError(ValueError):
    """A published model that is damaged, unsafe to read, or not computed by our PET."""
