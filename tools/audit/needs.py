"""What one stage depends on, worked out from its code."""

from dataclasses import dataclass

from tools.audit import calls, libraries, sources
from tools.audit.flow import Flow
from tools.audit.values import Field, Read, Use


@dataclass(frozen=True)
class Needs:
    """What a stage depends on, each with a place in the code.

    Attributes:
        files: Source files, with ``${...}`` where a parameter names one.
        params: Parameters by file and key, among them the libraries' in environment.yaml.
        required: The libraries that it checks when it starts.
        imported: The libraries that it imports.
        uses: Paths that it reads or writes.
        reads: The parameters, with the fields that take them.
        unused: Fields that take a parameter and that nothing uses.
        missing: Modules that it imports and that are not there.
        obscure: Places where something could not be followed.
    """

    files: dict[str, str]
    params: dict[tuple[str, str], str]
    required: dict[str, str]
    imported: dict[str, str]
    uses: dict[Use, str]
    reads: tuple[Read, ...]
    unused: dict[Field, str]
    missing: dict[str, str]
    obscure: dict[str, str]


def find(code: sources.Sources, module: str) -> Needs:
    """What the stage that runs a module depends on.

    Args:
        code: The source files of the repository.
        module: The module as a path without ``.py``.
    """
    start = code.file(module) or f"{module}.py"
    flow = Flow(code)
    flow.run(module)
    closure = code.closure([start])
    for template in list(flow.dynamic):
        chosen = [file for name in calls.matching(code, template) if (file := code.file(name))]
        closure.merge(code.closure(chosen))
        if "$" not in template:
            closure.files |= dict.fromkeys(chosen, flow.dynamic[template])
        for file in chosen:
            flow.library(file.removesuffix(".py"))
    for file in closure.files:
        if file != start:
            flow.load(file.removesuffix(".py"))
    required = {
        key: read.where for (name, key), read in flow.reads.items() if name == libraries.ENVIRONMENT
    }
    imported = {
        libraries.distribution(name): where
        for name, where in closure.libraries.items()
        if name not in libraries.WITHOUT_INFLUENCE
    }
    templates = {f"{name}.py": where for name, where in flow.dynamic.items() if "$" in name}
    return Needs(
        files={start: f"{start}:1"} | closure.files | templates,
        params={pair: read.where for pair, read in flow.reads.items()}
        | {(libraries.ENVIRONMENT, name): where for name, where in imported.items()},
        required=required,
        imported=imported,
        uses=flow.uses,
        reads=tuple(flow.reads.values()),
        unused=flow.unused(),
        missing=closure.missing,
        obscure=flow.obscure,
    )
