"""What is said of a published file that cannot be read."""

from __future__ import annotations

LONGEST_REASON = 300  # characters of what zipfile and pickle say: they quote what they met


class PublishedError(ValueError):
    """A published model that is damaged, unsafe to read, or not computed by our PET."""
