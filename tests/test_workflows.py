"""The workflow files pass linters, keep the rules of least privilege, and do what they say.

The report job's `run:` blocks are executed as written, in order, with a local stand-in for what
GitHub provides: contexts, $GITHUB_ENV, the job summary. `cml` and `npm` are stubs that record how
they are called.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.compare import markdown

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
SCRIPTS = Path(sysconfig.get_path("scripts"))
needs_bash = pytest.mark.skipif(os.name == "nt", reason="the report job runs on Linux")


def _load(path: Path) -> dict[str, Any]:
    """The workflow, read so that the key `on` stays a word and does not become true."""
    document: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    return document


def _steps(workflow: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def _run(*command: str | Path, cwd: Path = ROOT) -> str:
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# Linters


@pytest.mark.parametrize(
    ("schema", "options", "files"),
    [
        ("vendor.github-workflows", (), WORKFLOWS),
        ("vendor.dependabot", (), [ROOT / ".github/dependabot.yml"]),
        ("vendor.gitlab-ci", ("--data-transform", "gitlab-ci"), [ROOT / ".gitlab-ci.yml"]),
    ],
)
def test_files_follow_the_published_schema(
    schema: str, options: tuple[str, ...], files: list[Path]
) -> None:
    check = (sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema)
    _run(*check, *options, *files)


def test_zizmor_finds_no_security_fault() -> None:
    zizmor = shutil.which("zizmor", path=SCRIPTS) or "zizmor"
    _run(zizmor, "--offline", "--persona", "pedantic", "--no-progress", ROOT / ".github")


@pytest.mark.skipif(not shutil.which("actionlint"), reason="actionlint is not on PATH")
def test_actionlint_finds_nothing() -> None:
    _run("actionlint", *WORKFLOWS)


# Rules that no linter knows


def test_actions_are_pinned_by_hash_and_name_their_version() -> None:
    lines = [line for path in WORKFLOWS for line in path.read_text("utf-8").splitlines()]
    uses = [line for line in lines if re.match(r"\s*(- )?uses:", line)]
    assert uses
    assert [line for line in uses if not re.search(r"@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line)] == []


def test_an_action_has_one_version_everywhere() -> None:
    pins = {step["uses"] for path in WORKFLOWS for step in _steps(_load(path)) if "uses" in step}
    versions: dict[str, set[str]] = {}
    for pin in pins:
        action, commit = pin.split("@")
        versions.setdefault("/".join(action.split("/")[:2]), set()).add(commit)
    assert {action: found for action, found in versions.items() if len(found) > 1} == {}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_job_has_a_time_limit_and_no_right_but_its_own(path: Path) -> None:
    workflow = _load(path)
    assert workflow["permissions"] == {}
    assert "pull_request_target" not in workflow["on"]
    for name, job in workflow["jobs"].items():
        may_comment = {"pull-requests": "write"} if name == "report" else {}
        assert job["permissions"] == {"contents": "read"} | may_comment
        assert int(job["timeout-minutes"]) <= 120


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_pull_request_has_one_run_at_a_time(path: Path) -> None:
    concurrency = _load(path)["concurrency"]
    assert "github.event.pull_request.number" in concurrency["group"]
    assert "pull_request" in concurrency["cancel-in-progress"]


def test_no_expression_reaches_a_shell() -> None:
    blocks = [step["run"] for path in WORKFLOWS for step in _steps(_load(path)) if "run" in step]
    assert [block for block in blocks if "${{" in block] == []


def _hermetic_block() -> str:
    steps = _load(ROOT / ".github/workflows/tests.yml")["jobs"]["checks"]["steps"]
    (block,) = [step["run"] for step in steps if "--hermetic" in step.get("run", "")]
    return str(block)


def test_both_services_run_each_stage_with_its_deps_alone_on_the_digits() -> None:
    lines = _hermetic_block().splitlines()
    assert lines == [
        "cp recipes/digits-mlp.yaml params.yaml",
        "dvc repro",
        "python -m tools.audit --hermetic",
    ]
    assert _load(ROOT / ".gitlab-ci.yml")["checks"]["script"][-3:] == lines


@pytest.mark.slow
@needs_bash
def test_each_stage_makes_the_same_of_its_deps_alone(repository: Any) -> None:
    done = repository.run("bash", "-euo", "pipefail", "-c", _hermetic_block())
    assert done.code == 0, done.out + done.err
    assert done.out.endswith("ok: every stage makes the same of its deps alone\n")


def test_the_tests_run_on_three_systems_and_three_pythons() -> None:
    matrix = _load(ROOT / ".github/workflows/tests.yml")["jobs"]["tests"]["strategy"]["matrix"]
    assert {name.split("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}
    assert matrix["python"] == ["3.11", "3.12", "3.13"]


# The report job, executed

STUBS = {
    "cml": """
        if [ "${IMAGES_FAIL:-}" ] && grep -q '!\\[' "$3"; then exit 7; fi
        cp "$3" "$LOG.comment.md"
        """,
    "npm": "",
    "apt-get": "",
    "dvc": """
        if [ "$1" = repro ] && [ "${REPRO_FAILS:-}" ]; then
          printf "Running stage 'train':\\n\\033[31mred\\033[0m\\n10%%\\r90%%\\n\\`\\`\\`\\n"
          echo "ERROR: failed to reproduce 'train': failed to run: python -m stages.train" >&2
          exit 255
        fi
        """,
    "python": """
        if [ "$1 $2" = "-m tools.seeds" ]; then exit "${SEEDS_FAIL:-0}"; fi
        if [ "$1 $2" != "-m tools.compare" ]; then exit 0; fi
        if [ "${COMPARE_FAILS:-}" ]; then echo "ERROR: no metrics" >&2; exit 1; fi
        mkdir -p reports/comparison
        echo tables > reports/comparison/tables.md
        case "$*" in *--no-images*) echo tables ;; *) echo '![](a.png)' ;; esac \
          > reports/comparison/report.md
        case "$*" in *--fail-if-worse*) exit "${WORSE:-0}" ;; esac
        """,
}
COMMENT = (
    "cml comment update reports/comparison/report.md --target pr --watermark-title pipeline-report"
)
GITLAB_COMMENT = COMMENT.replace("reports/comparison", "report") + " --publish-native"
REPRO_LOG = (
    "Running stage 'train':",
    "red",
    "90%",
    "'''",
    "ERROR: failed to reproduce 'train': failed to run: python -m stages.train",
)
OWN = {
    "github.event_name": "pull_request",
    "github.event.pull_request.head.repo.full_name": "owner/project",
    "github.event.repository.private": False,
    "github.repository": "owner/project",
    "github.token": "a-token",
    "steps.reproduce.outcome": "success",
    "steps.cache.outputs.cache-hit": "",
}
FORK = {"github.event.pull_request.head.repo.full_name": "someone/project"}


def _evaluate(text: str, context: Mapping[str, object]) -> Any:
    """The value of a GitHub expression of contexts, strings, `==`, `!=`, `&&`, `||` and brackets.

    A context that is not in `context` is empty where GitHub leaves it empty (secrets and
    variables of the repository) and a KeyError elsewhere.
    """
    tokens = re.findall(r"'[^']*'|[a-z][\w.-]*|==|!=|&&|\|\||[()]", text)
    assert "".join(tokens) == re.sub(r"\s", "", text), f"not understood: {text}"
    python = {"&&": "and", "||": "or"}
    for token in tokens:
        if token[0].isalpha():
            empty = "" if token.split(".")[0] in ("secrets", "vars") else None
            value = context.get(token, empty)
            if value is None:
                raise KeyError(token)
            python[token] = repr(value)
    return eval(" ".join(python.get(token, token) for token in tokens))


def _substitute(text: str, context: Mapping[str, object]) -> str:
    return re.sub(r"\$\{\{(.*?)\}\}", lambda found: str(_evaluate(found[1], context)), text)


class Runner:
    """A stand-in for the machine that runs a job, in a clone of a project with a branch.

    Attributes:
        clone: Where the blocks run.
        log: What was called, one command a line.
    """

    def __init__(self, folder: Path, project: Path, stubs: Mapping[str, str]) -> None:
        self.clone, self.log = project, folder / "calls"
        self.summary, self.printed = folder / "summary.md", ""
        self.exported = folder / "github_env"
        for file in (self.log, self.summary, self.exported):
            file.touch()
        (folder / "bin").mkdir()
        for name, body in stubs.items():
            stub = folder / "bin" / name
            stub.write_text(f'#!/usr/bin/env bash\necho "{name} $*" >> "$LOG"\n{body}\n', "utf-8")
            stub.chmod(0o755)
        self.environment = {
            **{name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ},
            "PATH": os.pathsep.join([str(folder / "bin"), str(SCRIPTS), os.environ["PATH"]]),
            "LOG": str(self.log),
            "GITHUB_ENV": str(self.exported),
            "GITHUB_STEP_SUMMARY": str(self.summary),
            "GITHUB_BASE_REF": "main",
            "RUNNER_TEMP": str(folder),
        }

    def bash(self, script: str, environment: Mapping[str, str]) -> int:
        """The exit status of the script, under the strictest of the settings in use."""
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-euo", "pipefail", "-c", script],
            cwd=self.clone,
            env=self.environment | dict(environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        self.printed += done.stdout
        return done.returncode

    def github(self, changes: Mapping[str, object], **environment: str) -> int:
        """The exit status of the first step of the report job that fails, else 0."""
        context = OWN | dict(changes)
        workflow = _load(ROOT / ".github/workflows/report.yml")
        job = workflow["jobs"]["report"]
        assert _evaluate(job["if"], context)
        for step in job["steps"]:
            if "run" not in step or not _evaluate(step.get("if", "'always'"), context):
                continue
            declared = workflow["env"] | job["env"] | step.get("env", {})
            values = {name: _substitute(value, context) for name, value in declared.items()}
            values["DATASET_CACHE"] = str(self.log.parent / "datasets")
            exported = self.exported.read_text("utf-8").splitlines()
            values |= dict(line.split("=", 1) for line in exported) | environment
            status = self.bash(step["run"], values)
            if status and step.get("continue-on-error") == "true":
                context[f"steps.{step['id']}.outcome"] = "failure"
            elif status:
                return status
        return 0

    def gitlab(self, **environment: str) -> int:
        """The exit status of the report job's script, one shell for all its lines."""
        script = "\n".join(_load(ROOT / ".gitlab-ci.yml")["report"]["script"])
        return self.bash(script, environment)

    @property
    def calls(self) -> list[str]:
        return self.log.read_text("utf-8").splitlines()


def _failure(command: str, stage: str, commit: str, *log: str) -> str:
    """The report that .ci/attempt writes when a command fails."""
    return "\n".join(
        [
            f"## `{command}` failed{stage}",
            "",
            f"So there are no results for {commit}, and nothing to compare. The end of the log:",
            "",
            "```",
            *log,
            "```",
            "",
        ]
    )


def _git(*arguments: str, cwd: Path) -> str:
    who = ("-c", "user.name=A Tester", "-c", "user.email=tester@example.org")
    return _run("git", *who, *arguments, cwd=cwd).strip()


def _commit(project: Path, message: str) -> str:
    _git("add", "--all", cwd=project)
    _git("commit", "--quiet", "--message", message, cwd=project)
    return _git("rev-parse", "HEAD", cwd=project)


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a main branch of one commit and another branch of one more."""
    origin = tmp_path_factory.mktemp("origin")
    _git("init", "--quiet", "--initial-branch=main", cwd=origin)
    (origin / ".ci").mkdir()
    for name in ("attempt", "pull", "seeds"):
        shutil.copy(ROOT / ".ci" / name, origin / ".ci" / name)
    (origin / "requirements.txt").touch()
    (origin / "dvc.lock").touch()
    (origin / "reports").mkdir()
    (origin / "reports/metrics.json").touch()
    _commit(origin, "Base")
    _git("checkout", "--quiet", "-b", "branch", cwd=origin)
    (origin / "params.yaml").touch()
    _commit(origin, "Change")
    return origin


@pytest.fixture
def runner(tmp_path: Path, origin: Path) -> Runner:
    """A runner in a clone as actions/checkout leaves it: on the branch, origin/main fetched."""
    _git("clone", "--quiet", "--branch=branch", origin.as_uri(), "clone", cwd=tmp_path)
    return Runner(tmp_path, tmp_path / "clone", STUBS)


@needs_bash
class TestGithubReport:
    def test_reproduces_compares_comments_and_gates_in_this_order(self, runner: Runner) -> None:
        base = _git("rev-parse", "origin/main", cwd=runner.clone)
        assert runner.github({}) == 0, runner.printed
        assert runner.calls == [
            "python -m pip install -r requirements.txt",
            "dvc repro",
            "python -m tools.seeds 3",
            f"python -m tools.seeds 3 {base}",
            f"python -m tools.compare {base} --fail-if-worse --gate",
            "npm install --global --ignore-scripts --before=2024-11-01 @dvcorg/cml@0.20.6",
            COMMENT,
        ]
        assert runner.summary.read_text("utf-8").startswith("tables\n\nA job summary shows no")

    def test_a_worse_model_fails_after_the_comment(self, runner: Runner) -> None:
        assert runner.github({}, WORSE="1") == 1
        assert runner.calls[-1] == COMMENT
        assert Path(f"{runner.log}.comment.md").read_text("utf-8") == "![](a.png)\n"

    def test_a_reproduction_that_fails_is_commented_on(self, runner: Runner) -> None:
        assert runner.github({}, REPRO_FAILS="yes") == 1
        assert runner.calls[-1] == COMMENT
        assert not [call for call in runner.calls if "tools.compare" in call]
        assert not [call for call in runner.calls if "tools.seeds" in call]
        comment = Path(f"{runner.log}.comment.md").read_text("utf-8")
        commit = _git("rev-parse", "--short", "HEAD", cwd=runner.clone)
        assert comment == _failure("dvc repro", " at the stage `train`", commit, *REPRO_LOG)
        assert markdown.problems(comment) == []
        assert runner.summary.read_text("utf-8").startswith(comment)
        assert "::error::dvc repro failed" in runner.printed

    def test_a_comparison_that_fails_is_commented_on(self, runner: Runner) -> None:
        assert runner.github({}, COMPARE_FAILS="yes") == 1
        assert runner.calls[-1] == COMMENT
        comment = Path(f"{runner.log}.comment.md").read_text("utf-8")
        commit = _git("rev-parse", "--short", "HEAD", cwd=runner.clone)
        assert comment == _failure("python -m tools.compare", "", commit, "ERROR: no metrics")

    def test_a_failure_does_not_save_a_half_made_cache(self) -> None:
        steps = _load(ROOT / ".github/workflows/report.yml")["jobs"]["report"]["steps"]
        (save,) = (step for step in steps if step.get("name") == "Save the DVC cache")
        assert _evaluate(save["if"], OWN)
        assert not _evaluate(save["if"], OWN | {"steps.reproduce.outcome": "failure"})

    def test_the_number_of_seeds_is_a_variable(self, runner: Runner) -> None:
        assert runner.github({"vars.SEEDS": "1"}) == 0
        assert not [call for call in runner.calls if "tools.seeds" in call]

    def test_a_number_of_seeds_that_takes_too_long_is_an_error(self, runner: Runner) -> None:
        assert runner.github({"vars.SEEDS": "50"}) == 1
        assert "SEEDS: expected 1 to 10, found '50'" in runner.printed

    def test_seeds_that_fail_leave_the_comparison(self, runner: Runner) -> None:
        assert runner.github({}, SEEDS_FAIL="124") == 0
        assert "Not every training with another seed of the work tree is there" in runner.printed
        assert COMMENT in runner.calls

    def test_an_unknown_outcome_is_a_warning(self, runner: Runner) -> None:
        assert runner.github({}, WORSE="3") == 0
        assert "::warning::Whether the model is good enough is not known" in runner.printed

    def test_images_that_cannot_be_posted_leave_the_tables(self, runner: Runner) -> None:
        assert runner.github({}, IMAGES_FAIL="yes") == 0
        assert Path(f"{runner.log}.comment.md").read_text("utf-8") == "tables\n"
        assert "::warning::" in runner.printed

    def test_a_fork_gets_a_summary_and_no_comment(self, runner: Runner) -> None:
        assert runner.github(FORK, WORSE="1") == 1
        assert not [call for call in runner.calls if call.startswith(("cml", "npm"))]
        assert "from a fork" in runner.printed
        assert runner.summary.read_text("utf-8").startswith("tables")

    @pytest.mark.parametrize(
        ("changes", "images"),
        [
            ({}, True),
            ({"github.event.repository.private": True}, False),
            ({"vars.REPORT_IMAGES": "none"}, False),
            ({"github.event.repository.private": True, "vars.REPORT_IMAGES": "publish"}, True),
        ],
    )
    def test_private_images_stay_at_home(
        self, runner: Runner, changes: dict[str, object], images: bool
    ) -> None:
        assert runner.github(changes) == 0
        comment = Path(f"{runner.log}.comment.md").read_text("utf-8")
        assert ("![" in comment) == images

    def test_images_go_to_a_host_of_ones_own(self, runner: Runner) -> None:
        assert runner.github({"vars.REPORT_IMAGE_HOST": "https://images.example.org"}) == 0
        assert any(
            call.endswith(" --publish-url https://images.example.org") for call in runner.calls
        )

    @pytest.mark.parametrize("address", ["s3://bucket/folder", "/a/folder", "https://a.example"])
    def test_a_remote_is_pulled_from_when_its_secret_exists(
        self, runner: Runner, address: str
    ) -> None:
        assert runner.github({"secrets.DVC_REMOTE_URL": address}) == 0, runner.printed
        dvc = [call for call in runner.calls if call.startswith("dvc ")]
        assert dvc[0] == f"dvc remote add --local --force --default ci {address}"
        run_cache = "" if address.startswith("https") else " --run-cache"
        assert dvc[1:] == [f"dvc pull{run_cache}", "dvc repro"]
        plugin = "python -m pip install -c requirements-dev.txt dvc[s3]"
        assert (plugin in runner.calls) == address.startswith("s3")

    def test_a_remote_that_fails_is_a_warning(self, runner: Runner) -> None:
        dvc = runner.log.parent / "bin/dvc"
        dvc.write_text(dvc.read_text("utf-8") + 'if [ "$1" = pull ]; then exit 1; fi\n', "utf-8")
        secret = {"secrets.DVC_REMOTE_URL": "/a/folder"}
        assert runner.github(secret, GITHUB_ACTIONS="true") == 0
        assert "::warning::The DVC remote lacks something or does not answer" in runner.printed

    def test_a_shallow_clone_is_an_error_that_says_so(
        self, tmp_path: Path, origin: Path, runner: Runner
    ) -> None:
        options = ("--quiet", "--depth=1", "--no-single-branch", "--branch=branch")
        _git("clone", *options, origin.as_uri(), "shallow", cwd=tmp_path)
        runner.clone = tmp_path / "shallow"
        assert runner.github({}) == 1
        assert runner.calls == []
        assert "::error::No common commit with main" in runner.printed


@needs_bash
class TestGitlabReport:
    def test_does_the_same(self, runner: Runner) -> None:
        base = _git("rev-parse", "origin/main", cwd=runner.clone)
        variables = {"CI_MERGE_REQUEST_DIFF_BASE_SHA": base, "REPO_TOKEN": "t", "SEEDS": "3"}
        assert runner.gitlab(**variables) == 0
        assert [call for call in runner.calls if "tools." in call] == [
            "python -m tools.seeds 3",
            f"python -m tools.seeds 3 {base}",
            f"python -m tools.compare {base} --fail-if-worse --gate",
        ]
        assert runner.calls[-1] == GITLAB_COMMENT

    def test_a_reproduction_that_fails_is_commented_on(self, runner: Runner) -> None:
        base = _git("rev-parse", "origin/main", cwd=runner.clone)
        token = {"CI_MERGE_REQUEST_DIFF_BASE_SHA": base, "REPO_TOKEN": "t", "SEEDS": "3"}
        assert runner.gitlab(**token, REPRO_FAILS="yes") == 1
        assert runner.calls[-1] == GITLAB_COMMENT
        comment = Path(f"{runner.log}.comment.md").read_text("utf-8")
        assert comment.startswith("## `dvc repro` failed at the stage `train`\n")

    def test_an_unknown_outcome_passes_and_a_worse_model_does_not(self, runner: Runner) -> None:
        base = _git("rev-parse", "origin/main", cwd=runner.clone)
        settings = {"CI_MERGE_REQUEST_DIFF_BASE_SHA": base, "SEEDS": "1"}
        assert runner.gitlab(**settings, WORSE="3") == 0
        shutil.rmtree(runner.clone / "report")
        assert runner.gitlab(**settings, WORSE="1") == 1

    def test_without_a_token_there_is_no_comment_but_a_gate(self, runner: Runner) -> None:
        base = _git("rev-parse", "origin/main", cwd=runner.clone)
        assert runner.gitlab(CI_MERGE_REQUEST_DIFF_BASE_SHA=base, WORSE="1", SEEDS="1") == 1
        assert not [call for call in runner.calls if call.startswith(("cml", "npm"))]
        assert "No variable REPO_TOKEN" in runner.printed

    @pytest.mark.parametrize("base", ["", "0123456789012345678901234567890123456789"])
    def test_an_unknown_base_is_an_error_that_says_so(self, runner: Runner, base: str) -> None:
        assert runner.gitlab(CI_MERGE_REQUEST_DIFF_BASE_SHA=base) == 1
        assert runner.calls == []
        assert "nothing to compare with" in runner.printed


@needs_bash
@pytest.mark.real_data
def test_the_report_job_on_this_project(tmp_path: Path) -> None:
    """The real pipeline, three seeds, the real comparison; only `cml`, `npm` and pip are stubs."""
    clone = tmp_path / "clone"
    listed = _run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name)
    _git("init", "--quiet", "--initial-branch=main", cwd=clone)
    runner = Runner(tmp_path, clone, {name: STUBS[name] for name in ("cml", "npm")})
    runner.environment["DATASET_CACHE"] = str(tmp_path / "datasets")
    path = clone / "params.yaml"
    path.write_text(re.sub(r"(\n  epochs: )\d+", r"\g<1>15", path.read_text("utf-8")), "utf-8")
    assert runner.bash("dvc repro", {}) == 0, runner.printed
    base = _commit(clone, "Base")
    _git("update-ref", "refs/remotes/origin/main", base, cwd=clone)
    params = path.read_text("utf-8")

    def push(epochs: int) -> tuple[int, str, str]:
        """The job's exit status, what it took and its log, of a push that changes the epochs."""
        changed = re.sub(r"(\n  epochs: )\d+", rf"\g<1>{epochs}", params)
        assert changed != params
        (clone / "params.yaml").write_text(changed, "utf-8")
        _commit(clone, f"Train for {epochs} epochs")
        runner.printed, began, before = "", time.monotonic(), os.times()
        only_look = {"PIP_DRY_RUN": "1", "PIP_NO_INDEX": "1", "PIP_QUIET": "1"}
        status = runner.github({}, **only_look)
        _git("checkout", "--", ".", cwd=clone)  # the next job starts from a checkout
        spent, after = time.monotonic() - began, os.times()
        cores = sum(after[2:4]) - sum(before[2:4])  # of the finished processes, on all cores
        return status, f"{spent:.0f} s ({cores:.0f} s of CPU)", runner.printed

    status, first, printed = push(1)
    assert status == 1, printed  # one epoch is worse
    assert [call.split()[0] for call in runner.calls] == ["npm", "cml"]
    assert printed.count(", trained, ") == 4  # two more seeds on both sides
    comment = Path(f"{runner.log}.comment.md").read_text("utf-8")
    assert "train.epochs" in comment
    assert "of 3 trainings before and of 3 after" in comment
    assert "![" in comment
    assert "![" not in runner.summary.read_text("utf-8")

    status, second, printed = push(2)
    assert status == 1, printed
    assert printed.count(", trained, ") == 2  # main's come out of the cache
    assert printed.count(", out of the cache, ") == 4
    print(f"first push {first}, second {second}, without installing anything")


# .ci/run, on a project whose two commands only say which Python they run on


@needs_bash
class TestContinuousIntegration:
    @pytest.fixture
    def project(self, tmp_path: Path) -> Runner:
        project = tmp_path / "project"
        venv = "python3 -m venv --without-pip .venv && . .venv/bin/activate && python -c"
        say = "import sys; print('{}: %d.%d' % sys.version_info[:2], 'in', sys.prefix)"
        for name, content in {
            "README.md": f'{venv} "{say.format("pipeline")}"\n{venv} "{say.format("tests")}"\n',
            "dvc.lock": "",
            "reports/result": "",
            "tools/audit.py": "",
        }.items():
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            (project / name).write_text(content, "utf-8")
        (project / ".ci").mkdir()
        shutil.copy(ROOT / ".ci/run", project / ".ci/run")
        _git("init", "--quiet", cwd=project)
        _commit(project, "All")
        names = ("apt-get", "chromium", "dvc", "mypy", "ruff")
        return Runner(tmp_path, project, dict.fromkeys(names, "") | {"pytest": "echo 9 passed"})

    def test_every_python_that_is_here_runs_both_lines_in_its_own_clone(
        self, project: Runner
    ) -> None:
        assert project.bash("bash .ci/run", {"DATASET_MIRROR": ""}) == 0, project.printed
        ran = re.findall(r"(?m)^(pipeline|tests): (\S+) in (\S+)$", project.printed)
        versions = [version for kind, version, _ in ran if kind == "tests"]
        here = f"{sys.version_info[0]}.{sys.version_info[1]}"
        assert here in versions
        assert versions == sorted(set(versions))
        assert [(kind, version) for kind, version, _ in ran] == [
            (kind, version) for kind in ("pipeline", "tests") for version in versions
        ]
        assert len({prefix for _, _, prefix in ran}) == len(versions)
        assert not [prefix for _, _, prefix in ran if prefix.startswith(str(project.clone))]
        assert [call.strip() for call in project.calls[-4:]] == [
            "ruff check .",
            "ruff format --check .",
            "mypy",
            "pytest -m slow",
        ]
        assert project.printed.endswith("\n9 passed\n")

    def test_another_python_with_other_results_fails(self, project: Runner) -> None:
        readme = project.clone / "README.md"
        pipeline, tests = readme.read_text("utf-8").splitlines()
        readme.write_text(f"{pipeline} > reports/result\n{tests}\n", "utf-8")
        _commit(project.clone, "Results that differ between versions")
        status = project.bash("bash .ci/run", {"DATASET_MIRROR": ""})
        several = project.printed.count("==> README, the pipeline") > 1
        assert status == int(several)
        assert ("gives other results than Python" in project.printed) == several

    def test_no_supported_python_is_an_error(self, project: Runner) -> None:
        for version in ("3.11", "3.12", "3.13"):
            stub = project.log.parent / f"bin/python{version}"
            stub.write_text("#!/bin/sh\nexit 1\n", "utf-8")
            stub.chmod(0o755)
        assert project.bash("bash .ci/run", {"HOME": str(project.log.parent)}) == 1
        assert project.printed.startswith("Neither Python 3.11")
