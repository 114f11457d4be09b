"""What the audit found, and the change to dvc.yaml that mends it."""

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Change:
    """One entry of a stage in dvc.yaml to add or to remove.

    Attributes:
        stage: Its name in dvc.yaml.
        add: Whether to add the entry, else to remove it.
        section: ``deps`` or ``params``.
        file: The file of a parameter; empty for a dep.
        entry: The path or the key, with ``${...}`` as dvc.yaml writes it.
    """

    stage: str
    add: bool
    section: str
    file: str
    entry: str


@dataclass(frozen=True, order=True)
class Finding:
    """One line of the audit.

    Attributes:
        subject: The stage or the file that it is about.
        what: What is wrong, and where in the code.
        step: What to do.
        change: The same for ``--fix``, where it can do it.
    """

    subject: str
    what: str
    step: str
    change: Change | None = None

    def __str__(self) -> str:
        """The line as it is printed."""
        return f"{self.subject}: {self.what}: {self.step}"
