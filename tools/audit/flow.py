"""What a stage reads and writes, followed through its code without running it.

The code is walked as it would run, from the stage's module on, with what is known of each value:
texts, paths, functions, records read from the configuration. A function is walked once for every
different set of known arguments, so that a key, a schema or a path may be handed over by as many
functions as a person likes. What is not known is None; a read that depends on it is ``obscure``.
"""

import ast
import builtins
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from tools.audit import calls, sources
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
    Use,
    Value,
    join,
)

DATA = ("data/", "models/", "reports/")  # a text that begins so is taken for a path


class Flow:
    """Walks the modules of one stage; what it found is in the attributes.

    Attributes:
        reads: Parameters by file and key.
        uses: Paths, with the place of a use.
        dynamic: Modules imported by a computed name, as paths with ``${...}``.
        obscure: What could not be followed, with its place.
        taken: Attributes that are read: of which class, or of an unknown value, and the name.
        fields: The fields and arguments that parameters are read into, with the key.
    """

    def __init__(self, code: sources.Sources) -> None:
        self.code = code
        self.reads: dict[tuple[str, str], Read] = {}
        self.uses: dict[Use, str] = {}
        self.dynamic: dict[str, str] = {}
        self.obscure: dict[str, str] = {}
        self.taken: set[tuple[Definition | None, str]] = set()
        self.fields: dict[Field, str] = {}
        self._call = calls.Calls(self).evaluate
        self._constants: dict[tuple[str, str], Value] = {}
        self._results: dict[object, Value] = {}
        self._stack: list[tuple[str, int]] = []
        self._entry = ""

    def run(self, module: str) -> None:
        """Walks a module as the program that is run."""
        self._entry = module
        self.load(module)

    def load(self, module: str) -> None:
        """Walks the top level of a module."""
        if file := self.code.file(module):
            self._block(self.code.tree(file).body, Frame(module))

    def library(self, module: str) -> None:
        """Walks a module and all of its functions, whoever calls them."""
        self.load(module)
        for name in self.code.names(module):
            self.mention(self._global(module, name))

    def unused(self) -> dict[Field, str]:
        """The fields and arguments that take a value which nothing uses, with the key."""
        return {
            entry: key
            for entry, key in self.fields.items()
            if (entry.owner, entry.name) not in self.taken
            and (entry.keyword or (None, entry.name) not in self.taken)
        }

    def where(self) -> str:
        """The innermost place in the code of the stage itself, not of what it shares."""
        own = [place for place in self._stack if not place[0].startswith("stages/lib/")]
        module, line = (own or self._stack or [(self._entry, 1)])[-1]
        return f"{self.code.file(module)}:{line}"

    @contextmanager
    def at(self, frame: Frame, node: ast.expr) -> Iterator[None]:
        """The block during which a node is the place of what is found."""
        self._stack.append((frame.module, node.lineno))
        try:
            yield
        finally:
            self._stack.pop()

    # Functions and classes

    def call(
        self, function: Definition, arguments: Sequence[Value] | None, named: dict[str, Value]
    ) -> Value:
        """Walks a function with what is known of its arguments, None when there is no call.

        Returns:
            The value that it returns.
        """
        node = self.code.definition(function)
        if not isinstance(node, sources.Function):
            return None
        names = self._bound(node, function.module, arguments, named)
        memory = (function, tuple(sorted(names.items(), key=lambda item: item[0])))
        if memory not in self._results:
            self._results[memory] = None  # of a recursive call
            self._results[memory] = self._body(node, Frame(function.module, names))
        return self._results[memory]

    def mention(self, value: Value) -> None:
        """Walks what may be called from here on with arguments that nobody knows."""
        node = self.code.definition(value) if isinstance(value, Definition) else None
        if node is None or not isinstance(value, Definition) or value in self._results:
            return
        self._results[value] = None
        if isinstance(node, sources.Function):
            self.call(value, None, {})
        elif isinstance(node, ast.ClassDef):
            frame = Frame(value.module)
            for base in node.bases:
                self.consume(self.evaluate(base, frame))
            self._block(node.body, frame)

    def _bound(
        self,
        node: sources.Function,
        module: str,
        arguments: Sequence[Value] | None,
        named: dict[str, Value],
    ) -> dict[str, Value]:
        """The parameters of a function with the arguments of a call, or their defaults."""
        spec = node.args
        positional = [*spec.posonlyargs, *spec.args]
        pairs = [*zip(reversed(positional), reversed(spec.defaults), strict=False)]
        keywords = zip(spec.kwonlyargs, spec.kw_defaults, strict=True)
        pairs += [(name, value) for name, value in keywords if value]
        names: dict[str, Value] = dict.fromkeys(a.arg for a in (*positional, *spec.kwonlyargs))
        if arguments is not None:
            names |= {name.arg: self.evaluate(value, Frame(module)) for name, value in pairs}
        arguments = arguments or ()
        names |= {name.arg: value for name, value in zip(positional, arguments, strict=False)}
        names |= {name: value for name, value in named.items() if name in names}
        if spec.vararg:
            rest = tuple(arguments[len(positional) :])
            names[spec.vararg.arg] = Items(rest) if rest and None not in rest else None
        if spec.kwarg:
            names[spec.kwarg.arg] = None
        return names

    def _body(self, node: sources.Function, frame: Frame) -> Value:
        self._block(node.body, frame)
        results = frame.results
        return results[0] if results and all(result == results[0] for result in results) else None

    # Statements

    def _block(self, body: Iterable[ast.stmt], frame: Frame) -> None:
        for node in body:
            self._statement(node, frame)

    def _statement(self, node: ast.stmt, frame: Frame) -> None:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                if self.code.names(frame.module).get(node.name) is node:
                    frame.names.pop(node.name, None)
                else:
                    self._inner(node, frame)
            case ast.Import() | ast.ImportFrom():
                for name, value in self.code.bindings(node, frame.module):
                    frame.names[name] = self._imported(value)
            case ast.Return():
                frame.results.append(self.evaluate(node.value, frame) if node.value else None)
            case ast.Assign():
                value = self.evaluate(node.value, frame)
                for target in node.targets:
                    self._bind(target, value, frame)
            case ast.AnnAssign():
                if node.value:
                    self._bind(node.target, self.evaluate(node.value, frame), frame)
            case ast.Expr():
                self.evaluate(node.value, frame)
            case ast.For() | ast.AsyncFor():
                for _ in self.bindings(node.target, node.iter, frame):
                    self._block(node.body, frame)
                self._block(node.orelse, frame)
            case ast.If():
                self._condition(node, frame)
            case _:
                self._parts(node, frame)

    def _condition(self, node: ast.If, frame: Frame) -> None:
        program = isinstance(node.test, ast.Compare) and "'__name__'" in ast.dump(node.test)
        imported = program and frame.module != self._entry
        if not imported and not sources.for_type_checkers(node.test):
            self.evaluate(node.test, frame)
            self._block(node.body, frame)
        self._block(node.orelse, frame)

    def _inner(self, node: sources.Function | ast.ClassDef, frame: Frame) -> None:
        """A method, or what is defined in a function: nothing is known of its arguments."""
        frame.names[node.name] = None
        names = {} if isinstance(node, ast.ClassDef) else dict.fromkeys(_parameters(node.args))
        self._block(node.body, Frame(frame.module, {**frame.names, **names}))

    def _parts(self, node: ast.AST, frame: Frame) -> None:
        """Whatever has statements and expressions: each of them in turn."""
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.stmt):
                self._statement(child, frame)
            elif isinstance(child, ast.expr):
                self._lost([self.evaluate(child, frame)], child, frame)
            elif isinstance(child, ast.withitem):
                value = self.evaluate(child.context_expr, frame)
                if child.optional_vars:
                    self._bind(child.optional_vars, None, frame)
                else:
                    self._lost([value], child.context_expr, frame)
            else:
                self._parts(child, frame)

    def _bind(self, target: ast.expr, value: Value, frame: Frame) -> None:
        if isinstance(target, ast.Name):
            before = frame.names.get(target.id, value)
            frame.names[target.id] = value if before == value else None
        elif isinstance(target, ast.Tuple | ast.List):
            items = value.items if isinstance(value, Items) else ()
            known = len(items) == len(target.elts)
            for at, part in enumerate(target.elts):
                self._bind(part, items[at] if known else None, frame)
        elif isinstance(target, ast.Starred):
            self._bind(target.value, None, frame)
        else:
            self._lost([value], target, frame)

    def bindings(self, target: ast.expr, values: ast.expr, frame: Frame) -> Iterator[None]:
        """Binds ``target`` to each item of a loop that is known, or once to an unknown one."""
        found = self.evaluate(values, frame)
        if not isinstance(found, Items):
            self._lost([found], values, frame)
        outside, after = frame.names, dict(frame.names)
        for item in found.items if isinstance(found, Items) else (None,):
            frame.names = {
                name: value for name, value in outside.items() if name not in _assigned(target)
            }
            self._bind(target, item, frame)
            yield
            inside = frame.names.items()
            after |= {name: None for name, value in inside if after.get(name) != value}
        frame.names = after

    # Expressions

    def evaluate(self, node: ast.expr, frame: Frame) -> Value:
        """What is known of the value of an expression."""
        match node:
            case ast.Constant():
                return Text(node.value) if isinstance(node.value, str) else None
            case ast.Name():
                return self._name(node.id, frame)
            case ast.Attribute():
                return self.attribute(self.evaluate(node.value, frame), node.attr)
            case ast.Call():
                return self._call(node, frame)
            case ast.BinOp(op=ast.Div() | ast.Add()):
                return self._joined(node, frame)
            case ast.JoinedStr():
                return self._formatted(node, frame)
            case ast.Tuple() | ast.List():
                return self._items(node, frame)
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp():
                return self._comprehension(node.generators, [node.elt], frame)
            case ast.DictComp():
                return self._comprehension(node.generators, [node.key, node.value], frame)
            case ast.NamedExpr():
                value = self.evaluate(node.value, frame)
                self._bind(node.target, value, frame)
                return value
            case ast.Compare():  # looks at a record, and uses nothing of it
                values = [self.evaluate(part, frame) for part in (node.left, *node.comparators)]
                return self._lost((v for v in values if not isinstance(v, Record)), node, frame)
            case ast.IfExp():
                self.evaluate(node.test, frame)
                first, second = self.evaluate(node.body, frame), self.evaluate(node.orelse, frame)
                return first if first == second else self._lost((first, second), node, frame)
            case ast.Lambda():
                inner = Frame(
                    frame.module, {**frame.names, **dict.fromkeys(_parameters(node.args))}
                )
                return self._lost((self.evaluate(node.body, inner),), node, frame)
            case _:
                self._parts(node, frame)
                return None

    def attribute(self, value: Value, name: str) -> Value:
        """An attribute of a value."""
        match value:
            case Module():
                return self._member(value.path, name)
            case Library():
                return Library(f"{value.name}.{name}")
            case Record():
                self.taken.add((value.schema, name))
                return dict(value.fields).get(name)
            case Place():
                above = Place(value.path.rpartition("/")[0], value.partial)
                return above if name == "parent" else None
            case _:
                self.taken.add((None, name))
                return None

    def _member(self, path: str, name: str) -> Value:
        """What a module holds under a name: a module within, or what its top level binds."""
        inner = f"{path}/{name}"
        if "$" in path:
            return Definition(path, name)
        within = self.code.file(inner) or (self.code.root / inner).is_dir()
        return Module(inner) if within else self._global(path, name)

    def _name(self, name: str, frame: Frame) -> Value:
        return frame.names[name] if name in frame.names else self._global(frame.module, name)

    def _global(self, module: str, name: str) -> Value:
        memory = (module, name)
        if memory not in self._constants:
            self._constants[memory] = None
            self._constants[memory] = self._constant(module, name)
        return self._constants[memory]

    def _constant(self, module: str, name: str) -> Value:
        node = self.code.names(module).get(name)
        if name == "__file__":
            return Text(self.code.file(module) or "")
        if isinstance(node, sources.Function | ast.ClassDef):
            return Definition(module, name)
        if isinstance(node, ast.Import | ast.ImportFrom):
            return self._imported(dict(self.code.bindings(node, module))[name])
        if isinstance(node, ast.expr):
            return self.evaluate(node, Frame(module))
        return Library(f"builtins.{name}") if hasattr(builtins, name) else None

    def _imported(self, value: Value) -> Value:
        return self._global(value.module, value.name) if isinstance(value, Definition) else value

    def _joined(self, node: ast.BinOp, frame: Frame) -> Value:
        left, right = self.evaluate(node.left, frame), self.evaluate(node.right, frame)
        if isinstance(left, Place) and isinstance(node.op, ast.Div):
            return join(left, [right])
        if isinstance(left, Text) and isinstance(right, Text) and isinstance(node.op, ast.Add):
            return Text(left.text + right.text)
        return self._lost((left, right), node, frame)

    def _formatted(self, node: ast.JoinedStr, frame: Frame) -> Value:
        """An f-string; of one that is known in part only a path's beginning is of use."""
        inner = [
            part.value if isinstance(part, ast.FormattedValue) else part for part in node.values
        ]
        known = ""
        for part in [self.evaluate(part, frame) for part in inner]:
            if not isinstance(part, Text | Place):
                path = known.startswith(DATA) and " " not in known
                return Place(known.rpartition("/")[0], partial=True) if path else None
            known += part.text if isinstance(part, Text) else part.path
        return Text(known)

    def _items(self, node: ast.Tuple | ast.List, frame: Frame) -> Value:
        found: list[Value] = []
        for item in node.elts:
            value = self.evaluate(item.value if isinstance(item, ast.Starred) else item, frame)
            if not isinstance(item, ast.Starred):
                found.append(value)
            elif isinstance(value, Items):
                found += value.items
            else:
                return self._lost((value, *found), node, frame)
        return Items(tuple(found))

    def _comprehension(
        self, generators: Sequence[ast.comprehension], results: Sequence[ast.expr], frame: Frame
    ) -> Value:
        if not generators:
            for result in results:
                self._lost([self.evaluate(result, frame)], result, frame)
            return None
        first = generators[0]
        for _ in self.bindings(first.target, first.iter, frame):
            for test in first.ifs:
                self._lost([self.evaluate(test, frame)], test, frame)
            self._comprehension(generators[1:], results, frame)
        return None

    def _lost(self, values: Iterable[Value], node: ast.expr, frame: Frame) -> Value:
        """Takes values as used, since nobody can say where they go from here."""
        with self.at(frame, node):
            for value in values:
                self.consume(value)
        return None

    def consume(self, value: Value, written: bool = False) -> None:
        """Takes a value as used: a path as opened, a function as called."""
        if isinstance(value, Text) and " " not in value.text:
            path = value.text.removeprefix("./")
            value = Place(path.rstrip("/")) if path.startswith(DATA) else None
        if isinstance(value, Items):
            for item in value.items:
                self.consume(item, written)
        elif isinstance(value, Place):
            partial = value.partial or "." not in value.path.rpartition("/")[2]
            self.uses.setdefault(Use(value.path, partial, written), self.where())
        elif isinstance(value, Record):
            self.taken |= {(value.schema, name) for name, _ in value.fields}
            self.consume(Items(tuple(inner for _, inner in value.fields)))
        else:
            self.mention(value)


def _parameters(arguments: ast.arguments) -> list[str]:
    return [node.arg for node in ast.walk(arguments) if isinstance(node, ast.arg)]


def _assigned(target: ast.expr) -> set[str]:
    return {node.id for node in ast.walk(target) if isinstance(node, ast.Name)}
