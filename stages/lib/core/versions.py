"""The library versions that the numbers depend on."""

from importlib import metadata

from stages.lib.core import config
from stages.lib.core.errors import UserError

ENVIRONMENT = "environment.yaml"


def require(*packages: str) -> dict[str, str]:
    """The installed versions of ``packages``, equal to those of environment.yaml.

    Args:
        packages: Names as on the package index; a stage gives those that it imports.

    Returns:
        One version a package.

    Raises:
        UserError: A package is not installed, has no key, or has another version.
    """
    return {package: _checked(package) for package in packages}


def _checked(package: str) -> str:
    expected = str(config.value(ENVIRONMENT, package, str))
    try:
        found = metadata.version(package)
    except metadata.PackageNotFoundError:
        found = "none"
    if found == expected:
        return found
    raise UserError(
        f"{ENVIRONMENT}: {package}: expected version {expected}, installed is {found}.\n"
        "Run `pip install -r requirements.txt`; to move to another version, change it in "
        f"{ENVIRONMENT} and requirements.txt both."
    )
