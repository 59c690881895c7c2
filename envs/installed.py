"""Versions of installed packages."""

import functools
from importlib import metadata


@functools.cache
def versions(*modules: str) -> dict[str, str]:
    """Return the versions of the packages that these top modules come from, by the name of the package, sorted."""
    packages = metadata.packages_distributions()
    names = sorted({name for module in modules for name in packages.get(module, ())})
    return {name: metadata.version(name) for name in names}
