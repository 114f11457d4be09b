"""What Git knows: the revision to compare with, its files, and how the work tree differs."""

import difflib
import io
import json
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

from stages.lib.core.errors import UserError
from tools.lib.git import git

# The branch that a pull request goes to, as GitHub's and GitLab's CI name it.
_TARGETS = ("GITHUB_BASE_REF", "CI_MERGE_REQUEST_TARGET_BRANCH_NAME")
_MAINS = ("origin/main", "origin/master", "main", "master", "origin/HEAD")


@dataclass(frozen=True)
class Base:
    """The revision that the work tree is compared with.

    Attributes:
        commit: Its full hash.
        how: Where it comes from, in words, such as ``the merge base with origin/main``.
    """

    commit: str
    how: str

    @property
    def short(self) -> str:
        """The first seven digits of the hash."""
        return self.commit[:7]


@dataclass(frozen=True)
class WorkTree:
    """Where the work tree stands.

    Attributes:
        commit: The full hash of HEAD.
        branch: Its branch, empty when HEAD is detached.
        dirty: Whether files differ from HEAD.
    """

    commit: str
    branch: str
    dirty: bool


def work_tree() -> WorkTree:
    """The state of the work tree.

    Raises:
        UserError: This is no Git repository, or one without a commit.
    """
    if (inside := git("rev-parse", "--is-inside-work-tree")).returncode:
        raise UserError(
            f"{Path.cwd()}: expected a Git repository, found none ({_last_line(inside.stderr)}).\n"
            "Run this in a clone, from the top folder of the project."
        )
    if (commit := _commit("HEAD")) is None:
        raise UserError(
            "HEAD: this repository has no commit yet, so there is nothing to compare with.\n"
            "Commit, change something, run `dvc repro`, then compare."
        )
    branch = git("symbolic-ref", "--quiet", "--short", "HEAD").stdout.decode().strip()
    changes = git("status", "--porcelain", "--untracked-files=no").stdout.strip()
    return WorkTree(commit, branch, bool(changes))


def find_base(requested: str | None) -> Base:
    """The revision asked for, or else the merge base of HEAD with the main branch.

    Raises:
        UserError: There is no such revision, no main branch, or no common ancestor.
    """
    if requested is None:
        return _merge_base(_main_branch())
    commit = _commit(requested)
    if commit is None:
        raise UserError(_unknown(requested))
    return Base(commit, requested)


@dataclass(frozen=True)
class Entry:
    """A result that a commit recorded: its full hash, day, subject and metrics by name."""

    commit: str
    date: str
    subject: str
    metrics: dict[str, float]


def history(commit: str, path: str, count: int = 10) -> list[Entry]:
    """The last results of a branch that hold an accuracy, the newest first.

    Args:
        commit: Where the branch ends.
        path: The file of metrics.
        count: Commits that changed it and are looked at.
    """
    form = "--format=%H%x09%cs%x09%s"
    options = ("--first-parent", "--no-show-signature", f"--max-count={count}", "--encoding=UTF-8")
    log = git("log", *options, form, commit, "--", path).stdout
    entries = []
    for line in filter(None, log.decode(errors="replace").split("\n")):
        name, date, subject = line.split("\t", 2)
        try:
            metrics = json.loads(git("show", f"{name}:./{path}").stdout)
        except ValueError:
            continue  # deleted there, or damaged
        if isinstance(metrics, dict) and isinstance(metrics.get("accuracy"), float | int):
            entries.append(Entry(name, date, subject, metrics))
    return entries


def export(commit: str, folder: Path) -> None:
    """Writes all files of a commit below the present folder into ``folder``.

    Raises:
        UserError: Git cannot read them.
    """
    answer = git("archive", "--format=zip", commit)
    if answer.returncode:
        raise UserError(
            f"{commit[:7]}: its files could not be read: {_last_line(answer.stderr)}.\n{_deepen()}"
        )
    with zipfile.ZipFile(io.BytesIO(answer.stdout)) as archive:
        archive.extractall(folder)


def _main_branch() -> str:
    """The branch to compare with when none is named."""
    for variable in _TARGETS:
        if target := os.environ.get(variable):
            for name in (f"origin/{target}", target):
                if _commit(name):
                    return name
            raise UserError(
                f"{variable}: expected a branch that was fetched, found '{target}'.\n{_deepen()}"
            )
    for name in _MAINS:
        if _commit(name):
            return name
    raise UserError(
        f"No main branch: expected one of {', '.join(_MAINS)}; found {_names() or 'no branch'}.\n"
        + (_deepen() if _shallow() else "Name the revision: `python -m tools.compare REV`.")
    )


def _merge_base(branch: str) -> Base:
    answer = git("merge-base", "HEAD", branch)
    commit = answer.stdout.decode().strip()
    if not commit:
        step = (
            _deepen()
            if _shallow()
            else "Their histories are unrelated: name a revision, `python -m tools.compare REV`."
        )
        raise UserError(f"HEAD and {branch}: expected a common ancestor, found none.\n{step}")
    return Base(commit, f"the merge base with {branch}")


def _commit(name: str) -> str | None:
    """The full hash of the commit that a name stands for."""
    answer = git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if found := answer.stdout.decode().strip():
        return None if found.startswith("^") or "\n" in found else found  # a range is no commit
    experiments = git("for-each-ref", "--format=%(objectname)", f"refs/exps/*/*/{name}")
    hashes = set(experiments.stdout.decode().split())  # DVC's names of `dvc exp run`
    return hashes.pop() if len(hashes) == 1 else None


def _unknown(name: str) -> str:
    """The two lines about a revision that Git does not know."""
    found = f"{name}: unknown Git revision"
    if _shallow():
        return f"{found}; this clone is shallow and lacks older commits.\n{_deepen()}"
    if name.rstrip("~^0123456789") in ("HEAD", "@"):
        count = git("rev-list", "--count", "HEAD").stdout.decode().strip()
        return f"{found}; HEAD has {int(count) - 1} commits before it.\nName a commit or a branch."
    refs = _refs()
    near = difflib.get_close_matches(name, refs, n=1, cutoff=0.5)
    step = f"Did you mean '{near[0]}'? " if near else ""
    return f"{found}; known are {_names()}.\n{step}`git fetch` gets what others have pushed."


def _refs() -> list[str]:
    kinds = ("refs/heads", "refs/remotes", "refs/tags")  # and not DVC's own
    answer = git("for-each-ref", "--format=%(refname:short)", "--sort=-creatordate", *kinds)
    return answer.stdout.decode().split()


def _names() -> str:
    refs = _refs()
    return ", ".join(refs[:8]) + (" and others" if len(refs) > 8 else "")


def _shallow() -> bool:
    return git("rev-parse", "--is-shallow-repository").stdout.strip() == b"true"


def _deepen() -> str:
    if not _shallow():
        return "Run `git fetch --all` and try again."
    return (
        "Run `git fetch --unshallow origin '+refs/heads/*:refs/remotes/origin/*'`; in CI set "
        "`fetch-depth: 0` for actions/checkout on GitHub, `GIT_DEPTH: 0` on GitLab."
    )


def _last_line(stderr: bytes) -> str:
    lines = stderr.decode(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("fatal: ").rstrip(".") if lines else "no reason given"
