"""The functions that the audit knows: those that read parameters and those that make paths."""

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from stages.lib.core import config
from tools.audit import sources
from tools.audit.values import (
    Definition,
    Field,
    Frame,
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
    from tools.audit.flow import Flow

CONFIG = "stages/lib/core/config"
REPLACING = Definition("stages/lib/core/files", "replacing")
# The catalogue names all entries in an error message, and checks all of the active one
UNDECLARED_ALLOWED = ("stages/lib/data/catalogue",)
INERT = ("repr", "print", "hash", "isinstance", "type", "len")  # use nothing of a record
TEXTUAL = ("as_posix", "__str__", "__fspath__")  # methods of a path that only spell it
WRITING = ("write_text", "write_bytes", "mkdir", "touch")  # and those that write it

# Takes the file, the key and the schema of a read
Reader = Callable[[str, str, Value], Value]
# Takes the arguments of a call, by position and by name
Known = Callable[[list[Value], dict[str, Value]], Value]


class Calls:
    """Evaluates calls for one flow."""

    def __init__(self, flow: "Flow") -> None:
        self.flow = flow
        self._readers: dict[str, Reader] = {
            "value": self._value,
            "fields": self._fields,
            "section": self._section,
            "arguments": self._arguments,
            "checked": self._section,
        }
        self._libraries: dict[str, Known] = {
            "__import__": self._imported,
            "importlib.import_module": self._imported,
            "pathlib.Path": self._path,
            "pathlib.PurePath": self._path,
            "os.path.join": self._path,
            "open": self._open,
            "str": self._text,
            "os.fspath": self._text,
            "getattr": self._attribute,
            "vars": self._unpacked,
            "dataclasses.asdict": self._unpacked,
            "dataclasses.astuple": self._unpacked,
            **dict.fromkeys(("list", "tuple", "sorted", "set", "typing.cast"), self._same),
        }

    def evaluate(self, node: ast.Call, frame: Frame) -> Value:
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

    def _arguments_of(self, node: ast.Call, frame: Frame) -> tuple[list[Value], dict[str, Value]]:
        arguments: list[Value] = []
        for argument in node.args:
            starred = isinstance(argument, ast.Starred)
            value = self.flow.evaluate(
                argument.value if isinstance(argument, ast.Starred) else argument, frame
            )
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
        self, function: Definition, arguments: list[Value], named: dict[str, Value], frame: Frame
    ) -> Value:
        if function.module == CONFIG and function.name in self._readers:
            reader = self._readers[function.name]
            if function.name == "checked" and frame.module in UNDECLARED_ALLOWED:
                reader = self._checked
            return self._read(reader, arguments, named)
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
        self,
        schema: Definition,
        node: ast.ClassDef,
        arguments: list[Value],
        named: dict[str, Value],
    ) -> Value:
        self.flow.mention(schema)
        if not any("dataclass" in ast.dump(decorator) for decorator in node.decorator_list):
            return self._unknown([*arguments, *named.values()])
        names = [name for name, _ in annotated(node)]
        values = dict(zip(names, arguments, strict=False)) | named
        return Record(schema, tuple((name, values.get(name)) for name in names))

    def _unknown(self, values: Iterable[Value]) -> Value:
        for value in values:
            self.flow.consume(value)
        return None

    # Paths and imports

    def _method(self, base: Place, name: str, arguments: Sequence[Value]) -> Value:
        if name in TEXTUAL:
            return base if base.partial else Text(base.path)
        if name == "joinpath":
            return join(base, arguments)
        if name.startswith("with_") or name in ("absolute", "resolve"):
            parent = Place(base.path.rpartition("/")[0], partial=True)
            return parent if name.startswith("with_") else base
        mode = arguments[0] if name == "open" and arguments else None
        self.flow.consume(base, written=_writes(mode) or name in WRITING)
        return self._unknown(arguments)

    def _library(self, name: str, arguments: list[Value], named: dict[str, Value]) -> Value:
        known = self._libraries.get(name)
        if known:
            return known(arguments, named)
        if name in INERT:
            arguments = [value for value in arguments if not isinstance(value, Record)]
        return self._unknown([*arguments, *named.values()])

    def _path(self, arguments: list[Value], _: dict[str, Value]) -> Value:
        first = arguments[0] if arguments else None
        if isinstance(first, Place):
            return join(first, arguments[1:])
        known = isinstance(first, Text) and not first.text.startswith(("/", "~"))
        return join(Place(""), arguments) if known else None

    def _open(self, arguments: list[Value], named: dict[str, Value]) -> Value:
        first = arguments[0] if arguments else named.get("file")
        mode = arguments[1] if len(arguments) > 1 else named.get("mode")
        self.flow.consume(self._path([first], {}), written=_writes(mode))
        return None

    def _text(self, arguments: list[Value], _: dict[str, Value]) -> Value:
        value = arguments[0] if arguments else None
        return Text(value.path) if isinstance(value, Place) and not value.partial else value

    def _same(self, arguments: list[Value], named: dict[str, Value]) -> Value:
        self._unknown(named.values())
        return arguments[-1] if arguments else None

    def _attribute(self, arguments: list[Value], named: dict[str, Value]) -> Value:
        if len(arguments) > 1 and isinstance(arguments[1], Text):
            return self.flow.attribute(arguments[0], arguments[1].text)
        return self._unknown([*arguments, *named.values()])

    def _unpacked(self, arguments: list[Value], named: dict[str, Value]) -> Value:
        record = isinstance(arguments[0], Record) if arguments else False
        return arguments[0] if record else self._unknown([*arguments, *named.values()])

    def _imported(self, arguments: list[Value], named: dict[str, Value]) -> Value:
        name = arguments[0] if arguments else named.get("name")
        if not isinstance(name, Text):
            self.flow.obscure[self.flow.where()] = "a module imported by a name"
            return None
        module = re.sub(
            r"\$\{[^}]*\}|\.", lambda part: "/" if part[0] == "." else part[0], name.text
        )
        self.flow.dynamic.setdefault(module, self.flow.where())
        return Module(module)

    # Parameters

    def _read(self, reader: Reader, arguments: Sequence[Value], named: dict[str, Value]) -> Value:
        given = dict(zip(("file", "key", "schema"), arguments, strict=False)) | named
        file, key = given.get("file"), given.get("key")
        if isinstance(file, Text) and isinstance(key, Text):
            return reader(file.text, key.text, given.get("schema", given.get("function")))
        self.flow.obscure[self.flow.where()] = "a parameter read by a file or key"
        return None

    def _read_file(self, arguments: Sequence[Value], frame: Frame) -> Value:
        if frame.module not in UNDECLARED_ALLOWED:
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

    def _value(self, file: str, key: str, _: Value) -> Value:
        self._note(file, key)
        return Text(f"${{{key}}}") if file == config.PARAMS and "$" not in key else None

    def _fields(self, file: str, key: str, schema: Value) -> Value:
        fields = self._schema(schema, f"{file}: {key}")
        for entry in fields:
            if entry.owner == schema:
                self._note(file, f"{key}.{entry.name}")
        return self._record(schema, file, key)

    def _section(self, file: str, key: str, schema: Value) -> Value:
        self._note(file, key, self._schema(schema, f"{file}: {key}"))
        return self._record(schema, file, key)

    def _checked(self, file: str, key: str, schema: Value) -> Value:
        return self._record(schema, file, key)

    def _arguments(self, file: str, key: str, schema: Value) -> Value:
        fields: list[Field] = []
        function = schema if isinstance(schema, Definition) else None
        for module in matching(self.flow.code, function.module) if function else ():
            owner = Definition(module, function.name if function else "")
            fields += self._keywords(owner, f"{file}: {key}")
        if not fields and not function:
            self.flow.obscure[self.flow.where()] = (
                f"{file}: {key} read as the arguments of a function"
            )
        self._note(file, key, fields)
        return None

    def _schema(self, schema: Value, key: str) -> list[Field]:
        """The fields of a dataclass and of those in it, noted as takers of what is below a key."""
        fields = list(self._below(schema, ""))
        if not fields:
            self.flow.obscure[self.flow.where()] = f"{key} read as a dataclass"
        self.flow.fields |= {entry: f"{key}.{entry.key}" for entry in fields}
        return fields

    def _below(self, schema: Value, prefix: str) -> Iterator[Field]:
        if not isinstance(schema, Definition):
            return
        for name, hint, inner in self._hints(schema):
            place = f"{self.flow.code.file(schema.module)}:{hint.lineno}"
            key = f"{prefix}{name}"
            yield Field(schema, name, key, place, optional(hint), whole=inner is None)
            yield from self._below(inner, f"{key}.")

    def _hints(self, schema: Value) -> Iterator[tuple[str, ast.expr, Definition | None]]:
        """Name and annotation of each field of a dataclass, and the dataclass if that is one."""
        node = self.flow.code.definition(schema) if isinstance(schema, Definition) else None
        if isinstance(schema, Definition) and isinstance(node, ast.ClassDef):
            for name, hint in annotated(node):
                named = isinstance(hint, ast.Name | ast.Attribute)
                value = self.flow.evaluate(hint, Frame(schema.module)) if named else None
                inner = value if isinstance(value, Definition) else None
                yield name, hint, inner if any(self._hints(inner)) else None

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

    def _record(self, schema: Value, file: str, key: str) -> Value:
        """The instance that is read; its fields are ``${...}`` where DVC knows them by that."""
        known = file == config.PARAMS and "$" not in key
        values: list[tuple[str, Value]] = []
        for name, _, inner in self._hints(schema):
            text = Text(f"${{{key}.{name}}}") if known else None
            values.append((name, self._record(inner, file, f"{key}.{name}") if inner else text))
        return Record(schema, tuple(values)) if isinstance(schema, Definition) else None


def _writes(mode: Value) -> bool:
    return isinstance(mode, Text) and mode.text[:1] in ("w", "x", "a")


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
    """The modules that a path with ``${...}`` may stand for; ``_`` begins the names of helpers."""
    if "$" not in module:
        return [module]
    pattern = re.sub(r"\$\{[^}]*\}", "[!_]*", module) + ".py"
    found = (path.relative_to(code.root).as_posix() for path in code.root.glob(pattern))
    return sorted(path.removesuffix(".py") for path in found)
