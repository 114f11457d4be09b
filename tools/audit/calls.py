"""The functions that the audit knows: those that read parameters and those that make paths."""

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from tools.audit import sources
from tools.audit.values import (
    Definition,
    Field,
    Items,
    Library,
    Module,
    Place,
    Read,
    Record,
    Text,
    Value,
    join,
)

if TYPE_CHECKING:  # these two modules need each other
    from tools.audit.flow import Flow, Frame

CONFIG = "stages/lib/config"
REPLACING = Definition("stages/lib/files", "replacing")
# The catalogue lists the names of its entries in an error message, and nothing else depends on them
WHOLE_FILE_ALLOWED = ("stages/lib/catalogue",)
PATHS = ("pathlib.Path", "pathlib.PurePath", "pathlib.PosixPath")
SAME = ("str", "os.fspath", "list", "tuple", "sorted", "reversed", "set", "copy.copy", "typing.cast")
TEXTUAL = ("as_posix", "__str__", "__fspath__")  # methods of a path that only spell it
WRITING = ("write_text", "write_bytes", "mkdir", "touch")  # and those that write it
UNPACKED = ("dataclasses.asdict", "dataclasses.astuple", "vars")


class Calls:
    """Evaluates calls for one flow."""

    def __init__(self, flow: "Flow") -> None:
        self.flow = flow
        self._readers: dict[str, Callable[[str, str, Sequence[Value]], Value]] = {
            "value": self._value,
            "fields": self._fields,
            "section": self._section,
            "arguments": self._arguments,
        }

    def evaluate(self, node: ast.Call, frame: "Frame") -> Value:
        """What is known of the value that a call returns."""
        with self.flow.at(frame, node):
            arguments, named = self._arguments_of(node, frame)
            if isinstance(node.func, ast.Attribute):
                base = self.flow.evaluate(node.func.value, frame)
                if isinstance(base, Place):
                    return self._method(base, node.func.attr, arguments)
                function = self.flow.attribute(base, node.func.attr)
            else:
                function = self.flow.evaluate(node.func, frame)
            match function:
                case Definition():
                    return self._repository(function, arguments, named, frame)
                case Library():
                    return self._library(function.name.removeprefix("builtins."), arguments, named)
                case _:
                    return self._unknown([*arguments, *named.values()])

    def _arguments_of(self, node: ast.Call, frame: "Frame") -> tuple[list[Value], dict[str, Value]]:
        arguments: list[Value] = []
        for argument in node.args:
            starred = isinstance(argument, ast.Starred)
            value = self.flow.evaluate(argument.value if isinstance(argument, ast.Starred) else argument, frame)
            if starred and isinstance(value, Items):
                arguments += value.items
            else:
                arguments.append(None if starred else value)
        named: dict[str, Value] = {}
        for keyword in node.keywords:
            value = self.flow.evaluate(keyword.value, frame)
            if keyword.arg:
                named[keyword.arg] = value
            elif isinstance(value, Record):  # **asdict(record) uses all of its fields
                named |= {name: self.flow.attribute(value, name) for name, _ in value.fields}
        return arguments, named

    def _repository(
        self, function: Definition, arguments: list[Value], named: dict[str, Value], frame: "Frame"
    ) -> Value:
        if function.module == CONFIG and function.name in self._readers:
            return self._read(function.name, arguments, named)
        if function == Definition(CONFIG, "read"):
            return self._read_file(arguments, frame)
        if function == REPLACING:
            self.flow.consume(arguments[0] if arguments else named.get("path"), written=True)
            return None
        node = self.flow.code.definition(function)
        if isinstance(node, ast.ClassDef):
            return self._instance(function, node, arguments, named)
        if node is None:
            return self._unknown([*arguments, *named.values()])
        return self.flow.call(function, arguments, named)

    def _instance(
        self, schema: Definition, node: ast.ClassDef, arguments: list[Value], named: dict[str, Value]
    ) -> Value:
        self.flow.mention(schema)
        if not any("dataclass" in ast.dump(decorator) for decorator in node.decorator_list):
            return self._unknown([*arguments, *named.values()])
        names = [name for name, _ in annotated(node)]
        values = dict(zip(names, arguments, strict=False)) | named
        return Record(schema, tuple((name, values.get(name)) for name in names))

    def _unknown(self, values: Sequence[Value]) -> None:
        for value in values:
            self.flow.consume(value)

    # Paths and imports

    def _method(self, base: Place, name: str, arguments: Sequence[Value]) -> Value:
        if name in TEXTUAL:
            return base if base.partial else Text(base.path)
        if name == "joinpath":
            return join(base, arguments)
        if name.startswith("with_") or name in ("absolute", "resolve"):
            parent = Place(base.path.rpartition("/")[0], partial=True)
            return parent if name.startswith("with_") else base
        opened = name == "open" and bool(arguments) and arguments[0] in map(Text, ("w", "wb", "x", "xb", "a"))
        self.flow.consume(base, written=opened or name in WRITING)
        return self._unknown(arguments)

    def _library(self, name: str, arguments: list[Value], named: dict[str, Value]) -> Value:
        first = arguments[0] if arguments else None
        if name in PATHS:
            if isinstance(first, Place):
                return join(first, arguments[1:])
            known = isinstance(first, Text) and not first.text.startswith(("/", "~", ".."))
            return join(Place(""), arguments) if known else None
        if name in ("importlib.import_module", "__import__"):
            return self._imported(first)
        if name == "getattr" and len(arguments) > 1 and isinstance(arguments[1], Text):
            return self.flow.attribute(first, arguments[1].text)
        if name == "open" and len(arguments) > 1 and isinstance(arguments[1], Text):
            return self.flow.consume(first, written=arguments[1].text[:1] in "wxa")
        if name in SAME:
            self._unknown([*named.values()])
            value = arguments[-1] if arguments else None
            return Text(value.path) if name == "str" and isinstance(value, Place) and not value.partial else value
        if name in UNPACKED and isinstance(first, Record):
            return first
        return self._unknown([*arguments, *named.values()])

    def _imported(self, name: Value) -> Value:
        if not isinstance(name, Text):
            self.flow.obscure[self.flow.where()] = "a module imported by a name"
            return None
        module = re.sub(r"\$\{[^}]*\}|\.", lambda part: "/" if part[0] == "." else part[0], name.text)
        self.flow.dynamic.setdefault(module, self.flow.where())
        return Module(module)

    # Parameters

    def _read(self, reader: str, arguments: list[Value], named: dict[str, Value]) -> Value:
        order = ("file", "key", "function" if reader == "arguments" else "schema")
        file, key, schema = [*arguments, *(named.get(name) for name in order[len(arguments) :])][:3]
        if isinstance(file, Text) and isinstance(key, Text):
            return self._readers[reader](file.text, key.text, [schema])
        self.flow.obscure[self.flow.where()] = "a parameter read by a file or key"
        return None

    def _read_file(self, arguments: Sequence[Value], frame: "Frame") -> Value:
        if frame.module not in WHOLE_FILE_ALLOWED:
            if arguments and isinstance(arguments[0], Text):
                self._note(arguments[0].text, "")
            else:
                self.flow.obscure[self.flow.where()] = "a whole file read by a name"
        return None

    def _note(self, file: str, key: str, fields: Sequence[Field] = ()) -> None:
        before = self.flow.reads.get((file, key))
        known = before.fields if before else ()
        place = before.where if before else self.flow.where()
        self.flow.reads[file, key] = Read(file, key, place, tuple(dict.fromkeys((*known, *fields))))

    def _value(self, file: str, key: str, _: Sequence[Value]) -> Value:
        self._note(file, key)
        return Text(f"${{{key}}}") if file == "params.yaml" and "$" not in key else None

    def _fields(self, file: str, key: str, rest: Sequence[Value]) -> Value:
        fields = self._schema(rest[0], f"{file}: {key}")
        for entry in fields:
            self._note(file, f"{key}.{entry.name}")
        return self._record(file, key, fields)

    def _section(self, file: str, key: str, rest: Sequence[Value]) -> Value:
        fields = self._schema(rest[0], f"{file}: {key}")
        self._note(file, key, fields)
        return self._record(file, key, fields)

    def _arguments(self, file: str, key: str, rest: Sequence[Value]) -> Value:
        fields: list[Field] = []
        function = rest[0] if isinstance(rest[0], Definition) else None
        for module in matching(self.flow.code, function.module) if function else ():
            owner = Definition(module, function.name if function else "")
            fields += self._keywords(owner, f"{file}: {key}")
        if not fields and not function:
            self.flow.obscure[self.flow.where()] = f"{file}: {key} read as the arguments of a function"
        self._note(file, key, fields)
        return None

    def _schema(self, schema: Value, key: str) -> list[Field]:
        node = self.flow.code.definition(schema) if isinstance(schema, Definition) else None
        if not isinstance(schema, Definition) or not isinstance(node, ast.ClassDef):
            self.flow.obscure[self.flow.where()] = f"{key} read as a dataclass"
            return []
        file = self.flow.code.file(schema.module)
        fields = [
            Field(schema, name, f"{file}:{hint.lineno}", optional(hint)) for name, hint in annotated(node)
        ]
        self.flow.fields |= {entry: f"{key}.{entry.name}" for entry in fields}
        return fields

    def _keywords(self, owner: Definition, key: str) -> list[Field]:
        node = self.flow.code.definition(owner)
        if not isinstance(node, sources.Function):
            return []
        file = self.flow.code.file(owner.module)
        used = {n.id for part in node.body for n in ast.walk(part) if isinstance(n, ast.Name)}
        fields = [
            Field(
                owner,
                spec.arg,
                f"{file}:{spec.lineno}",
                bool(spec.annotation and optional(spec.annotation)),
                keyword=True,
            )
            for spec in node.args.kwonlyargs
        ]
        self.flow.taken |= {(owner, name) for name in used}
        self.flow.fields |= {entry: f"{key}.{entry.name}" for entry in fields}
        return fields

    def _record(self, file: str, key: str, fields: Sequence[Field]) -> Value:
        """The instance that was read; its fields are known as ``${...}`` where DVC knows them too."""
        if not fields:
            return None
        known = file == "params.yaml" and "$" not in key
        values = ((f.name, Text(f"${{{key}.{f.name}}}") if known else None) for f in fields)
        return Record(fields[0].owner, tuple(values))


def annotated(node: ast.ClassDef) -> Iterator[tuple[str, ast.expr]]:
    """The fields of a dataclass and their annotations."""
    for part in node.body:
        if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
            yield part.target.id, part.annotation


def optional(hint: ast.expr) -> bool:
    """Whether an annotation allows None."""
    return any(
        (isinstance(node, ast.Constant) and node.value is None)
        or "Optional" in (getattr(node, "id", ""), getattr(node, "attr", ""))
        for node in ast.walk(hint)
    )


def matching(code: sources.Sources, module: str) -> list[str]:
    """The modules that a path with ``${...}`` may stand for; ``_`` begins those that are helpers."""
    if "$" not in module:
        return [module]
    pattern = re.sub(r"\$\{[^}]*\}", "[!_]*", module) + ".py"
    found = (path.relative_to(code.root).as_posix() for path in code.root.glob(pattern))
    return sorted(path.removesuffix(".py") for path in found)
