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
        installed = metadata.version(package)
    except metadata.PackageNotFoundError:
        installed = "none"
    if installed == expected:
        return installed
    raise UserError(
        f"{ENVIRONMENT}: {package}: expected version {expected}, installed is {installed}.\n"
        "Run `pip install -r requirements.txt`; to move to another version, change it in "
        f"{ENVIRONMENT} and requirements.in. `dvc checkout` brings the former outputs back."
    )
