"""Where results that take long to compute are kept between processes."""

import os
from pathlib import Path


def cache_folder(part: str) -> Path:
    """Return the folder of one kind of result, such as "kernels". Raises OSError for a user without a home."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if not os.path.isabs(base):
        raise FileNotFoundError(base)
    return Path(base) / "rfwp" / part
