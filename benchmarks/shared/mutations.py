"""Wrong programs: every small change of the body of a function that a test should notice."""

from __future__ import annotations

import ast
import copy
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

OPERATORS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.MatMult: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
COMPARISONS: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
_PAIRS = (
    ("min", "max"),
    ("minimum", "maximum"),
    ("argmin", "argmax"),
    ("amin", "amax"),
    ("any", "all"),
    ("floor", "ceil"),
    ("mean", "median"),
    ("zeros", "ones"),
    ("zeros_like", "ones_like"),
    ("softmax", "log_softmax"),
    ("sin", "cos"),
)
NAMES = {"sorted": "list", **dict(_PAIRS), **{second: first for first, second in _PAIRS}}
# Their arguments have one order, or any.
WHOLE = ("isinstance", "getattr", "hasattr", "setattr", "require", "cast", "min", "max", "minimum", "maximum")
# Keywords that change nothing where all is well, or where there is no GPU.
CHECKS = ("strict", "encoding", "copy", "thread_name_prefix", "device")
FLOOR = 1e-6  # less than that keeps a division from 0, and twice as much does, too
# Words for people and for the type checker; nothing of them is changed.
TERSE = (ast.Constant, ast.Tuple, ast.Slice, ast.keyword, ast.UnaryOp)  # say little without what is around them
LEFT_OUT = (ast.JoinedStr, ast.Raise, ast.Assert, ast.Import, ast.ImportFrom, ast.arguments)


@dataclass(frozen=True)
class Mutation:
    """One small change.

    Attributes:
        number: of the change, counted through the module.
        function: whose body it is in, with its class.
        line: of the module as it stands.
        was, put: the expression or statement before and after.
    """

    number: int
    function: str
    line: int
    was: str
    put: str


def mutations(source: str) -> list[Mutation]:
    """Every small change of a module's functions, in the order of the text."""
    found = []
    for number, change in enumerate(_changes(ast.parse(source))):
        was = _short(change.shown)
        change.make()
        alone = change.node is change.shown
        put = ("" if change.new is None else _short(change.new)) if alone else _short(change.shown)
        change.undo()
        found.append(Mutation(number, change.function, change.node.lineno, was, put))
    return [item for item in found if item.was != item.put]


def mutated(source: str, number: int) -> str:
    """The module with one of its :func:`mutations` made."""
    tree = ast.parse(source)
    next(itertools.islice(_changes(tree), number, None)).make()
    return ast.unparse(ast.fix_missing_locations(tree)) + "\n"


def _short(node: ast.AST) -> str:
    if isinstance(node, ast.If):
        return f"if {ast.unparse(node.test)}:"
    return " ".join(ast.unparse(node).split())


@dataclass
class _Change:
    """A change that can be made in its tree and undone.

    Attributes:
        function: whose body it is in.
        parent, field, index: where the node stands; no index where it is no part of a list.
        node, new: what stands there, and what is put; None drops it.
        shown: the smallest expression or statement around it that says something.
    """

    function: str
    parent: ast.AST
    field: str
    index: int | None
    node: Any
    shown: ast.AST
    new: ast.AST | None

    def make(self) -> None:
        if self.index is None:
            setattr(self.parent, self.field, self.new)
        elif self.new is None:
            del getattr(self.parent, self.field)[self.index]
        else:
            getattr(self.parent, self.field)[self.index] = self.new

    def undo(self) -> None:
        if self.index is None:
            setattr(self.parent, self.field, self.node)
        elif self.new is None:
            getattr(self.parent, self.field).insert(self.index, self.node)
        else:
            getattr(self.parent, self.field)[self.index] = self.node


def _changes(tree: ast.Module) -> Iterator[_Change]:
    for owner, name in _functions(tree, ""):
        for parent, field, index, node, shown in _inside(owner, None):
            news: list[ast.AST | None] = list(_variants(node))
            if field == "ifs":
                news.append(None)
            for new in news:
                yield _Change(name, parent, field, index, node, shown, new)


def _functions(node: ast.AST, above: str) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, str]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{above}.{child.name}" if above else child.name
            if not isinstance(child, ast.ClassDef):
                yield child, name
            yield from _functions(child, name)
        else:
            yield from _functions(child, above)


def _inside(
    owner: ast.AST, above: ast.AST | None
) -> Iterator[tuple[ast.AST, str, int | None, ast.stmt | ast.expr, ast.AST]]:
    """Statements and expressions of a body, without those of functions inside it, which have a turn of their own."""
    for field, value in ast.iter_fields(owner):
        if field in ("decorator_list", "annotation", "returns"):
            continue
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(child, ast.AST) or isinstance(child, ast.FunctionDef | ast.ClassDef):
                continue
            if isinstance(child, ast.keyword) and child.arg in CHECKS:
                continue
            shown = above if isinstance(child, TERSE) and above is not None else child
            if isinstance(owner, ast.UnaryOp) and isinstance(child, ast.Constant):
                continue  # the sign is what is changed: of a shape -2 is as good as -1
            if isinstance(child, ast.stmt | ast.expr):
                yield owner, field, index, child, shown
            if not isinstance(child, LEFT_OUT):
                yield from _inside(child, None if hasattr(child, "body") and isinstance(child, ast.stmt) else shown)


def _variants(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.stmt):
        yield from _statements(node)
    elif isinstance(node, ast.Constant):
        yield from _constants(node)
    elif isinstance(node, ast.Call):
        yield from _calls(node)
    elif isinstance(node, ast.expr):
        yield from _expressions(node)


def _statements(node: ast.stmt) -> Iterator[ast.AST]:
    if isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant | ast.Yield | ast.YieldFrom):
        yield ast.Pass()
    elif isinstance(node, ast.AugAssign):
        yield ast.Pass()
        if type(node.op) in OPERATORS:
            yield _with(node, op=OPERATORS[type(node.op)]())
    elif isinstance(node, ast.Assign):
        if all(isinstance(target, ast.Subscript | ast.Attribute) for target in node.targets):
            yield ast.Pass()
    elif isinstance(node, ast.Raise | ast.Delete | ast.Break):
        yield ast.Pass()
    elif isinstance(node, ast.Continue):
        yield ast.Break()
    elif isinstance(node, ast.If):
        yield _with(node, test=ast.Constant(True))
        yield _with(node, test=ast.Constant(False))


def _constants(node: ast.Constant) -> Iterator[ast.AST]:
    value = node.value
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int):
        yield ast.Constant(value + 1)
    elif isinstance(value, float) and not 0 < value < FLOOR:
        yield ast.Constant(2 * value or 1.0)


def _calls(node: ast.Call) -> Iterator[ast.AST]:
    name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
    if name in NAMES and not (name in ("zeros", "ones") and "(0," in ast.unparse(node)):  # there is nothing in it
        renamed = {"id" if isinstance(node.func, ast.Name) else "attr": NAMES[name]}
        yield _with(node, func=_with(node.func, **renamed))
    if name in WHOLE:
        return
    many = len(node.args)
    if many > 1 and not any(isinstance(item, ast.Starred) for item in node.args):
        for at in sorted({0, many - 2}):
            yield _with(node, args=[*node.args[:at], node.args[at + 1], node.args[at], *node.args[at + 2 :]])
        yield _with(node, args=node.args[:-1])
    for at, given in enumerate(node.keywords):
        if given.arg is not None and given.arg not in CHECKS:
            yield _with(node, keywords=[*node.keywords[:at], *node.keywords[at + 1 :]])


def _expressions(node: ast.expr) -> Iterator[ast.AST]:
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        yield _with(node, op=OPERATORS[type(node.op)]())
    elif isinstance(node, ast.Compare):
        for at, operator in enumerate(node.ops):
            for other in COMPARISONS[type(operator)]:
                yield _with(node, ops=[*node.ops[:at], other(), *node.ops[at + 1 :]])
    elif isinstance(node, ast.BoolOp):
        yield _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
        for at in range(len(node.values)):
            rest = [*node.values[:at], *node.values[at + 1 :]]
            yield rest[0] if len(rest) == 1 else _with(node, values=rest)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub | ast.Invert):
        yield node.operand
    elif isinstance(node, ast.IfExp):
        yield _with(node, body=node.orelse, orelse=node.body)
    elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if any(isinstance(part, ast.Slice) and (part.lower or part.upper or part.step) for part in parts):
            yield node.value
    elif isinstance(node, ast.List) and isinstance(node.ctx, ast.Load) and len(node.elts) > 1:
        for at in range(len(node.elts)):
            yield _with(node, elts=[*node.elts[:at], *node.elts[at + 1 :]])
    elif isinstance(node, ast.Dict) and len(node.keys) > 1:
        for at in range(len(node.keys)):
            kept = [item for item in range(len(node.keys)) if item != at]
            yield _with(node, keys=[node.keys[item] for item in kept], values=[node.values[item] for item in kept])


def _with(node: ast.AST, **changed: object) -> ast.AST:
    """A shallow copy with other fields."""
    made = copy.copy(node)
    for name, value in changed.items():
        setattr(made, name, value)
    return made
