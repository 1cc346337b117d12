"""The body of a user's rule as straight-line arithmetic, for numba and for Python.

The body is walked once, at definition, with a symbol for every value:

* a *number* depends on hyperparameters and literals alone. Python computes it once per step, in
  double, by the lines that `Body.numbers` collects; where it meets an element it is a coefficient,
  rounded once to the array's dtype. That is what NumPy does with Python's floats, and what numba
  alone would not: there a literal turns float32 into float64.
* an *element* is of p, g or the state, or computed from one, in the array's dtype: a line of
  `Body.lines`.
* a *condition* is a comparison of elements.

Both sides of an ``if`` are computed, and the condition chooses: the loop has no branch, so that it
can be vectorised. Arithmetic on elements cannot fail. On numbers it can (1 / 0), so their lines are
run only where the ``if`` leads.
"""

import ast
import builtins
import linecache
import math
import operator
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from inspect import BoundArguments
from types import FunctionType
from typing import Any, NoReturn

import numpy as np

from fastoptim.custom import functions as known
from fastoptim.custom.source import definition_of, own_signature
from fastoptim.custom.symbols import Condition, Const, Element, Known, Missing, Number, Value
from fastoptim.porting.answers import shown

# Python's operators by syntax: the sign, and the function for what is known at definition.
BINARY: dict[type[ast.operator], tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Add: ("+", operator.add), ast.Sub: ("-", operator.sub), ast.Mult: ("*", operator.mul),
    ast.Div: ("/", operator.truediv), ast.Pow: ("**", operator.pow),
    ast.FloorDiv: ("//", operator.floordiv), ast.Mod: ("%", operator.mod),
    ast.BitAnd: ("&", operator.and_), ast.BitOr: ("|", operator.or_),
    ast.BitXor: ("^", operator.xor), ast.LShift: ("<<", operator.lshift),
    ast.RShift: (">>", operator.rshift), ast.MatMult: ("@", operator.matmul),
}
UNARY: dict[type[ast.unaryop], tuple[str, Callable[[Any], Any]]] = {
    ast.USub: ("-", operator.neg), ast.UAdd: ("+", operator.pos), ast.Not: ("not ", operator.not_),
    ast.Invert: ("~", operator.invert),
}
COMPARE: dict[type[ast.cmpop], tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Lt: ("<", operator.lt), ast.LtE: ("<=", operator.le), ast.Gt: (">", operator.gt),
    ast.GtE: (">=", operator.ge), ast.Eq: ("==", operator.eq), ast.NotEq: ("!=", operator.ne),
}
ELEMENTWISE = (ast.Add, ast.Sub, ast.Mult, ast.Div)
LOGICAL = (ast.BitAnd, ast.BitOr, ast.BitXor)


class Frame:
    """A function being walked: the rule, or one that it calls."""

    def __init__(self, fn: FunctionType, definition: ast.FunctionDef, rule: str) -> None:
        self.fn, self.definition, self.rule = fn, definition, rule
        self.names: dict[str, Value] = {}
        self.line = definition.lineno

    @property
    def place(self) -> str:
        """Where the walk is, as an error says it."""
        return f"{self.fn.__code__.co_filename} line {self.line}"

    def source(self) -> str:
        """Return the text of the line where the walk is."""
        return linecache.getline(self.fn.__code__.co_filename, self.line).strip()


class Body:
    """What the body of a rule computes.

    Parameters
    ----------
    fn : function
        Takes p, g, the state, and numbers; returns the new p and the new state.
    slots : int
        How many state arrays there are.

    Attributes
    ----------
    inputs : dict
        Names of the numbers that `fn` takes → their names in `numbers`.
    numbers : list of str
        Lines of Python, run once per step.
    places : list of str
        Where the user wrote what each of these lines says.
    coefficients : dict
        Names of the numbers that meet elements → their names in `lines`.
    lines : list of str
        Lines for numba, run per element.
    constants : dict
        Names in `lines` → numbers.
    objects : dict
        Names in `numbers` → functions.
    results : list of str
        Names in `lines` of the new p and the new state.
    """

    def __init__(self, fn: FunctionType, slots: int) -> None:
        self.rule = fn.__name__
        self.numbers: list[str] = []
        self.places: list[str] = []
        self.lines: list[str] = []
        self.coefficients: dict[str, str] = {}
        self.constants: dict[str, float] = {}
        self.objects: dict[str, Any] = {}
        self._seen: dict[Any, str] = {}  # what has a name already: the same text is the same value
        self._guards: list[str] = []  # of numbers: the conditions under which they are needed
        self._frames = [Frame(fn, definition_of(fn), self.rule)]
        names = fn.__code__.co_varnames[: fn.__code__.co_argcount]
        self.elements = ["p", "g", *(f"s{k}" for k in range(slots))]
        self.inputs = {name: f"a{k}" for k, name in enumerate(names[len(self.elements) :])}
        values: list[Value] = [Element(f"{name}_i") for name in self.elements]
        values += [Number(name) for name in self.inputs.values()]
        frame = self._frames[0]
        frame.names = dict(zip(names, values, strict=True))
        result = self.run(frame)
        self.results = self.outputs(result, names[2 : len(self.elements)])

    @property
    def adds_a_step(self) -> bool:
        """Whether the new p is p plus or minus what does not depend on p."""
        uses = [line for line in self.lines if re.search(r"\bp_i\b", line)]
        plain = rf"{self.results[0]} = (p_i [-+] \w+|\w+ \+ p_i)"
        return len(uses) == 1 and re.fullmatch(plain, uses[0]) is not None

    # ---------------------------------------------------------------- errors

    def error(self, kind: type[Exception], text: str, node: ast.AST | None = None) -> Exception:
        """Return an error that names the rule, the file, the line and what stands there."""
        frame = self._frames[-1]
        if node is not None:
            frame.line = getattr(node, "lineno", frame.line)
        callers = "".join(f", called from {f.place}" for f in reversed(self._frames[:-1]))
        return kind(f"{self.rule}, {frame.place}{callers}: {text}\n    {frame.source()}")

    # ---------------------------------------------------------------- lines

    def number(self, text: str) -> Number:
        """Add a line of Python, run once per step."""
        guard = " and ".join(self._guards)
        key = ("number", text, guard)
        if key not in self._seen:
            name = self._seen[key] = f"n{len(self.numbers)}"
            needed = f"({text}) if {guard} else 0.0" if guard else text
            self.numbers.append(f"{name} = {needed}")
            self.places.append(f"{self._frames[-1].place}: {self._frames[-1].source()}")
        return Number(self._seen[key])

    def object(self, value: Any) -> str:
        """Return the name of a function in the lines of Python."""
        key = ("object", id(value))
        if key not in self._seen:
            self._seen[key] = f"f{len(self.objects)}"
            self.objects[self._seen[key]] = value
        return self._seen[key]

    def line(self, text: str) -> str:
        """Add a line for numba, run per element; return the name of its value."""
        key = ("line", text)
        if key not in self._seen:
            self._seen[key] = f"x{len(self.lines)}"
            self.lines.append(f"{self._seen[key]} = {text}")
        return self._seen[key]

    def text(self, value: Const | Number) -> str:
        """Return a number as the lines of Python write it."""
        if isinstance(value, Number):
            return value.name
        if isinstance(value.value, float) and not math.isfinite(value.value):
            return f"float('{value.value}')"
        return f"({value.value!r})"

    def coefficient(self, text: str) -> str:
        """Return the name, in the lines for numba, of a number given as a line of Python."""
        guards, self._guards = self._guards, []  # the conversion itself does not fail
        name = text if text in self.inputs.values() else self.number(text).name
        self._guards = guards
        return self.coefficients.setdefault(name, f"c{len(self.coefficients)}")

    def constant(self, value: float) -> str:
        """Return the name of a number that is the same at every step."""
        key = ("constant", repr(value))
        if key not in self._seen:
            self._seen[key] = f"k{len(self.constants)}"
            self.constants[self._seen[key]] = value
        return self._seen[key]

    # ---------------------------------------------------------------- kinds

    def element(self, value: Value) -> str:
        """Return a value as the name of one of the array's dtype."""
        if isinstance(value, Element):
            return value.name
        if isinstance(value, Condition):
            return self.line(f"one if {value.name} else zero")
        if isinstance(value, Number):
            is_float = value.name in self.inputs.values()
            return self.coefficient(value.name if is_float else f"float({value.name})")
        if isinstance(value, Const):
            try:
                x = float(value.value)
            except OverflowError as problem:
                raise self.error(ValueError, str(problem)) from problem
            with np.errstate(over="ignore", under="ignore"):
                narrow = float(np.float32(x))
            if math.isfinite(x) and (math.isinf(narrow) or (narrow == 0) != (x == 0)):
                return self.coefficient(f"float({x!r})")  # which an update in float32 refuses
            return self.constant(x)
        return self.no_number(value)

    def condition(self, value: Value) -> str:
        """Return a value as the name of a truth value per element."""
        if isinstance(value, Condition):
            return value.name
        if isinstance(value, Element):
            return self.line(f"{value.name} != zero")
        if isinstance(value, Number):
            return self.line(f"{self.coefficient(f'1.0 if {value.name} else 0.0')} != zero")
        if isinstance(value, Const):
            return self.line("one == one" if value.value else "one != one")
        return self.no_number(value)

    def no_number(self, value: Value) -> NoReturn:
        """Say what a value is, where a number is needed."""
        if isinstance(value, tuple):
            raise self.error(TypeError, "there are several values here where one number is needed")
        if isinstance(value, Known):
            raise self.error(
                TypeError, f"{value.name} is no number, but of type {type(value.value).__name__}"
            )
        raise self.error(NameError, "this has a value on one way here, and none on another")

    @staticmethod
    def is_number(*values: Value) -> bool:
        """Whether all values depend on hyperparameters and literals alone."""
        return all(isinstance(value, (Const, Number)) for value in values)

    def folded(self, function: Callable[..., Any], *values: Any) -> Const:
        """Return the constant that a function gives for constants."""
        try:
            x = function(*values)
        except Exception as problem:
            raise self.error(ValueError, f"{type(problem).__name__}: {problem}") from problem
        if isinstance(x, (np.generic, np.ndarray)):
            x = x.item()
        if not isinstance(x, (bool, int, float)):
            raise self.error(TypeError, f"{shown(x)} is no real number")
        return Const(x)

    # ---------------------------------------------------------------- statements

    def run(self, frame: Frame) -> Value:
        """Walk a function whose arguments have their values; return what it returns."""
        result = self.block(frame.definition.body)
        if result is None:
            raise self.error(
                TypeError, "the function can end here without a return", frame.definition.body[-1]
            )
        return result

    def block(self, statements: Sequence[ast.stmt]) -> Value | None:
        """Walk statements; return what they return, None if they do not."""
        for k, node in enumerate(statements):
            self._frames[-1].line = node.lineno
            if isinstance(node, ast.Return):
                if node.value is None:
                    raise self.error(TypeError, "this returns nothing")
                return self.value(node.value)
            if isinstance(node, ast.If):
                test = self.value(node.test)
                if isinstance(test, Const):
                    side = node.body if test.value else node.orelse
                    return self.block([*side, *statements[k + 1 :]])
                if any(isinstance(x, ast.Return) for x in ast.walk(node)):
                    rest = statements[k + 1 :]
                    return self.two_returns(node, test, rest)
                self.two_sides(node, test)
            else:
                self.statement(node)
        return None

    def statement(self, node: ast.stmt) -> None:
        """Walk a statement that is no ``if`` and no ``return``."""
        if isinstance(node, ast.Assign):
            value = self.value(node.value)
            for target in node.targets:
                self.assign(target, value)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            self.assign(node.target, self.value(node.value))
        elif isinstance(node, ast.AugAssign):
            if not isinstance(node.target, ast.Name):
                self.assign(node.target, Const(0))  # which raises
            assert isinstance(node.target, ast.Name)
            before = self.name(node.target.id)
            value = self.binary(type(node.op), before, self.value(node.value))
            self.assign(node.target, value)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            pass  # a docstring
        elif isinstance(node, ast.Expr):
            self.value(node.value)
            raise self.error(TypeError, "this value is computed and then dropped")
        elif not isinstance(node, (ast.Pass, ast.AnnAssign)):
            self.refuse(node)

    def refuse(self, node: ast.AST) -> NoReturn:
        """Say that a kind of syntax has no place in a rule."""
        word = {
            ast.For: "a loop", ast.While: "a loop", ast.Raise: "raise", ast.Assert: "assert",
            ast.Subscript: "an index", ast.Starred: "*", ast.Lambda: "a lambda",
            ast.FunctionDef: "a function in the function", ast.JoinedStr: "a text",
            ast.ListComp: "a loop", ast.GeneratorExp: "a loop", ast.Try: "try", ast.With: "with",
            ast.Import: "import", ast.ImportFrom: "import", ast.Global: "global",
            ast.Nonlocal: "nonlocal",
        }.get(type(node), type(node).__name__)
        raise self.error(
            TypeError,
            f"{word} cannot be in a rule; it is arithmetic on one element of each array: "
            f"assignments, if, and return",
            node,
        )

    def assign(self, target: ast.expr, value: Value) -> None:
        """Give a name, or several, a value."""
        if isinstance(target, ast.Name):
            self._frames[-1].names[target.id] = value
        elif isinstance(target, (ast.Tuple, ast.List)):
            if not isinstance(value, tuple) or len(value) != len(target.elts):
                got = len(value) if isinstance(value, tuple) else 1
                raise self.error(ValueError, f"{len(target.elts)} names for {got} values", target)
            for one, part in zip(target.elts, value, strict=True):
                self.assign(one, part)
        elif isinstance(target, (ast.Subscript, ast.Attribute)):
            raise self.error(
                TypeError, "a rule writes into nothing; it returns the new p and the new state",
                target,
            )
        else:
            self.refuse(target)

    @contextmanager
    def side(self, test: Value, holds: bool) -> Iterator[None]:
        """Walk one side of an ``if``: numbers that belong to it are computed only on its way."""
        if isinstance(test, Number):
            self._guards.append(test.name if holds else f"not {test.name}")
        yield
        if isinstance(test, Number):
            self._guards.pop()

    def two_sides(self, node: ast.If, test: Value) -> None:
        """Walk both sides of an ``if``, and choose, name by name."""
        frame = self._frames[-1]
        before = dict(frame.names)
        with self.side(test, True):
            self.block(node.body)
        held, frame.names = frame.names, before
        with self.side(test, False):
            self.block(node.orelse)
        frame.line = node.lineno
        for name in held | frame.names:
            a, b = held.get(name, Missing()), frame.names.get(name, Missing())
            frame.names[name] = self.chosen(test, a, b, Missing())

    def two_returns(self, node: ast.If, test: Value, rest: Sequence[ast.stmt]) -> Value:
        """Walk both ways on from an ``if`` with a ``return`` in it; choose between the results."""
        frame = self._frames[-1]
        before = dict(frame.names)
        ways = []
        for holds, side in ((True, node.body), (False, node.orelse)):
            frame.names = dict(before)
            with self.side(test, holds):
                result = self.block([*side, *rest])
            if result is None:
                raise self.error(TypeError, "one way on from this if ends without a return", node)
            ways.append(result)
        frame.line = node.lineno
        return self.chosen(test, *ways)

    def chosen(self, test: Value, a: Value, b: Value, otherwise: Value | None = None) -> Value:
        """Return a where a condition holds, else b."""
        if a == b:
            return a
        if isinstance(test, Const):
            return a if test.value else b
        if isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b):
            return tuple(self.chosen(test, x, y, otherwise) for x, y in zip(a, b, strict=True))
        for value in (a, b):
            if isinstance(value, (tuple, Known, Missing)):
                return otherwise if otherwise is not None else self.no_number(value)
        if self.is_number(test, a, b):
            return self.number(f"{self.text(a)} if {self.text(test)} else {self.text(b)}")  # type: ignore[arg-type]
        when = self.condition(test)
        if isinstance(a, Condition) and isinstance(b, Condition):
            return Condition(self.line(f"{a.name} if {when} else {b.name}"))
        return Element(self.line(f"{self.element(a)} if {when} else {self.element(b)}"))

    def outputs(self, result: Value, slots: Sequence[str]) -> list[str]:
        """Return the names of the new p and the new state."""
        values = result if isinstance(result, tuple) else (result,)
        wanted = ["p", *slots]
        if len(values) != len(wanted) or isinstance(result, tuple) == (not slots):
            what = f"{len(values)} values" if isinstance(result, tuple) else "one value"
            new = f"new {', new '.join(wanted)}" if slots else "new p alone, not in a tuple"
            raise self.error(ValueError, f"this returns {what}; a rule returns the {new}")
        for name, value in zip(wanted, values, strict=True):
            if isinstance(value, Condition):
                raise self.error(TypeError, f"the new {name} is a comparison, and must be a number")
        return [self.element(value) for value in values]

    # ---------------------------------------------------------------- expressions

    def value(self, node: ast.expr) -> Value:
        """Return the symbol of an expression's value."""
        self._frames[-1].line = node.lineno
        if isinstance(node, ast.Constant):
            is_number = isinstance(node.value, (bool, int, float))
            return Const(node.value) if is_number else Known(node.value, repr(node.value))
        if isinstance(node, ast.Name):
            return self.name(node.id)
        if isinstance(node, ast.Attribute):
            return self.attribute(node)
        if isinstance(node, ast.Tuple):
            return tuple(self.value(x) for x in node.elts)
        if isinstance(node, ast.BinOp):
            left, right = self.value(node.left), self.value(node.right)
            self._frames[-1].line = node.lineno
            return self.binary(type(node.op), left, right)
        if isinstance(node, ast.UnaryOp):
            return self.unary(type(node.op), self.value(node.operand))
        if isinstance(node, ast.Compare):
            return self.compare(node)
        if isinstance(node, ast.BoolOp):
            return self.logic(node)
        if isinstance(node, ast.IfExp):
            test = self.value(node.test)
            if isinstance(test, Const):
                return self.value(node.body if test.value else node.orelse)
            with self.side(test, True):
                a = self.value(node.body)
            with self.side(test, False):
                b = self.value(node.orelse)
            return self.chosen(test, a, b)
        if isinstance(node, ast.Call):
            return self.call(node)
        return self.refuse(node)

    def name(self, name: str) -> Value:
        """Return what a name stands for: here, around the function, in its module, in Python."""
        frame = self._frames[-1]
        code = frame.fn.__code__
        if name in frame.names:
            value = frame.names[name]
            if isinstance(value, Missing):
                raise self.error(NameError, f"{name!r} is given a value on one side of an if alone")
            return value
        if name in code.co_varnames + code.co_cellvars:
            raise self.error(NameError, f"{name!r} is used before it is given a value")
        if name in code.co_freevars:
            cell = (frame.fn.__closure__ or ())[code.co_freevars.index(name)]
            try:
                return self.outside(cell.cell_contents, name)
            except ValueError as problem:
                raise self.error(NameError, f"{name!r} has no value yet") from problem
        for place in (frame.fn.__globals__, vars(builtins)):
            if name in place:
                return self.outside(place[name], name)
        raise self.error(NameError, f"name {name!r} is not defined")

    @staticmethod
    def outside(value: Any, name: str) -> Value:
        """Return the symbol of something outside the function: numbers are taken as they are."""
        for kind, kinds in ((bool, np.bool), (int, np.integer), (float, np.floating)):
            if isinstance(value, (kind, kinds)):
                return Const(kind(value))
        return Known(value, name)

    def attribute(self, node: ast.Attribute) -> Value:
        """Return the symbol of something such as np.sqrt."""
        owner = self.value(node.value)
        self._frames[-1].line = node.lineno
        if not isinstance(owner, Known):
            raise self.error(
                TypeError,
                f"a number has no .{node.attr} here; a rule is arithmetic on one element of each "
                f"array, and help(fastoptim.rule) lists what can be called",
            )
        name = f"{owner.name}.{node.attr}"
        try:
            return self.outside(getattr(owner.value, node.attr), name)
        except AttributeError as problem:
            raise self.error(NameError, f"there is no {name}: {problem}") from problem

    def binary(self, op: type[ast.operator], a: Value, b: Value) -> Value:
        """Return the symbol of a ∘ b."""
        sign, function = BINARY[op]
        if isinstance(a, Const) and isinstance(b, Const):
            return self.folded(function, a.value, b.value)
        if isinstance(a, (Const, Number)) and isinstance(b, (Const, Number)):
            return self.number(f"{self.text(a)} {sign} {self.text(b)}")
        if op in LOGICAL and not isinstance(a, Element) and not isinstance(b, Element):
            return Condition(self.line(f"{self.condition(a)} {sign} {self.condition(b)}"))
        if isinstance(a, Condition) and isinstance(b, Condition):
            raise self.error(
                TypeError, f"{sign} of two comparisons; join them by & or |, or choose by np.where"
            )
        if op is ast.Pow:
            return self.power(a, b)
        if op not in ELEMENTWISE:
            raise self.error(TypeError, f"{sign} is not available for elements of arrays")
        return Element(self.line(f"{self.element(a)} {sign} {self.element(b)}"))

    def power(self, a: Value, b: Value) -> Value:
        """Return the symbol of a ** b; NumPy computes some exponents without a power."""
        x = self.element(a)
        n = b.value if isinstance(b, Const) else None
        if n == 2:
            return Element(self.line(f"{x} * {x}"))
        if n == 1:
            return Element(x)
        if n == 0:
            return Const(1)
        if n == 0.5:
            return Element(self.line(known.SQRT.format(x)))
        if n == -1:
            return Element(self.line(f"one / {x}"))
        if n is not None and 2 < n <= 8 and n == int(n):
            return Element(self.line(f"{x} ** {int(n)}"))  # products, which can be vectorised
        return Element(self.line(known.POWER.format(x, self.element(b))))

    def unary(self, op: type[ast.unaryop], a: Value) -> Value:
        """Return the symbol of −a, +a, ~a or not a."""
        sign, function = UNARY[op]
        if isinstance(a, Const):
            return self.folded(function, a.value)
        if isinstance(a, Number):
            return self.number(f"{sign}{a.name}")
        if op in (ast.Not, ast.Invert):
            if not isinstance(a, Condition):
                raise self.error(TypeError, f"{sign.strip()} of a number, not of a comparison")
            return Condition(self.line(f"not {a.name}"))
        if isinstance(a, Condition):
            raise self.error(TypeError, f"{sign} of a comparison")
        x = self.element(a)
        return Element(x if op is ast.UAdd else self.line(f"-{x}"))

    def compare(self, node: ast.Compare) -> Value:
        """Return the symbol of a comparison, or of a chain of them."""
        values = [self.value(x) for x in (node.left, *node.comparators)]
        self._frames[-1].line = node.lineno
        parts = []
        for op, a, b in zip(node.ops, values, values[1:], strict=False):
            if type(op) not in COMPARE:
                self.refuse(op)
            parts.append(self.comparison(type(op), a, b))
        result = parts[0]
        for part in parts[1:]:
            result = self.both(result, part)
        return result

    def comparison(self, op: type[ast.cmpop], a: Value, b: Value) -> Value:
        """Return the symbol of one comparison."""
        sign, function = COMPARE[op]
        if isinstance(a, Const) and isinstance(b, Const):
            return self.folded(function, a.value, b.value)
        if isinstance(a, (Const, Number)) and isinstance(b, (Const, Number)):
            return self.number(f"{self.text(a)} {sign} {self.text(b)}")
        return Condition(self.line(f"{self.element(a)} {sign} {self.element(b)}"))

    def both(self, a: Value, b: Value, sign: str = "&") -> Value:
        """Return the symbol of "a and b", or of "a or b", of truth values."""
        if isinstance(a, (Const, Number)) and isinstance(b, (Const, Number)):
            word = {"&": "and", "|": "or"}[sign]
            return self.number(f"{self.text(a)} {word} {self.text(b)}")
        return Condition(self.line(f"{self.condition(a)} {sign} {self.condition(b)}"))

    def logic(self, node: ast.BoolOp) -> Value:
        """Return the symbol of "a and b …" or "a or b …"; what follows counts only if asked."""
        conjunction = isinstance(node.op, ast.And)
        result = self.value(node.values[0])
        guards = len(self._guards)
        for later in node.values[1:]:
            if isinstance(result, Const):
                if bool(result.value) != conjunction:
                    break
                result = self.value(later)
                continue
            if isinstance(result, Number):
                self._guards.append(result.name if conjunction else f"not {result.name}")
            value = self.value(later)
            for one in (result, value):
                if isinstance(one, Element):
                    raise self.error(
                        TypeError, "and, or join comparisons; choose between numbers by np.where"
                    )
            del self._guards[guards:]
            result = self.both(result, value, "&" if conjunction else "|")
        return result

    # ---------------------------------------------------------------- calls

    def call(self, node: ast.Call) -> Value:
        """Return the symbol of what a function returns."""
        function = self.value(node.func)
        if not isinstance(function, Known):
            raise self.error(TypeError, "a number is called here as if it were a function", node)
        values = [self.value(x) for x in node.args]
        named = {x.arg: self.value(x.value) for x in node.keywords}
        self._frames[-1].line = node.lineno
        f = getattr(function.value, "py_func", function.value)  # of numba's njit
        if isinstance(f, FunctionType) and (f.__module__ or "").partition(".")[0] != "numpy":
            return self.inlined(f, values, named)
        if named:
            raise self.error(TypeError, f"{function.name} takes no arguments by name in a rule")
        for value in values:
            if isinstance(value, (tuple, Known)):
                self.no_number(value)
        if f is np.where and len(values) == 3:
            return self.chosen(*values)
        if self.is_number(*values) and values and known.of_numbers(f):
            if all(isinstance(value, Const) for value in values):
                return self.folded(f, *(value.value for value in values))  # type: ignore[union-attr]
            inside = ", ".join(self.text(value) for value in values)  # type: ignore[arg-type]
            return self.number(f"{self.object(f)}({inside})")
        return self.on_elements(f, function.name, values)

    def on_elements(self, f: Any, name: str, values: list[Value]) -> Value:
        """Return the symbol of a known function of at least one element."""
        try:
            hash(f)
        except TypeError:
            f = None
        n = len(values)
        if f in known.OPERATORS and n == 2:
            return self.binary(known.OPERATORS[f], *values)
        if f in known.SIGNS and n == 1:
            return self.unary(known.SIGNS[f], *values)
        if f in known.COMPARISONS and n == 2:
            return self.comparison(known.COMPARISONS[f], *values)
        if f in known.LOGIC and n == 2:
            a, b = (Condition(self.condition(value)) for value in values)
            return self.binary(known.LOGIC[f], a, b)
        if f in (max, min) and n > 2:
            return self.on_elements(f, name, [self.on_elements(f, name, values[:-1]), values[-1]])
        if f is np.clip and n == 3:
            by_numbers = self.is_number(*values[1:])
            ways = known.CLIP_BY_NUMBERS if by_numbers else known.CLIP_BY_ARRAYS
            x, low, high = (self.element(value) for value in values)
            return Element(self.line(ways[1].format(self.line(ways[0].format(x, low)), high)))
        for table in (known.EXACT, known.UNSIGNED, known.ROUNDED, known.CONDITIONS):
            if f in table:
                text = table[f]
                wanted = known.arity(text)
                if wanted != n:
                    raise self.error(TypeError, f"{name} takes {wanted} numbers here, got {n}")
                line = self.line(text.format(*(self.element(value) for value in values)))
                return Condition(line) if table is known.CONDITIONS else Element(line)
        raise self.error(
            TypeError,
            f"{name} cannot be called in a rule, which is arithmetic on one element of each array; "
            f"help(fastoptim.rule) lists what can",
        )

    def inlined(self, fn: FunctionType, values: list[Value], named: dict[Any, Value]) -> Value:
        """Return the symbol of what a function of the user's returns: its body is walked, too."""
        if any(frame.fn is fn for frame in self._frames):
            raise self.error(TypeError, f"{fn.__name__} calls itself")
        try:
            given: BoundArguments = own_signature(fn).bind(*values, **named)
        except TypeError as problem:
            raise self.error(TypeError, f"{fn.__name__}: {problem}") from problem
        for name, parameter in given.signature.parameters.items():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise self.error(TypeError, f"{fn.__name__} takes *{name}; name each argument")
            if name not in given.arguments:
                given.arguments[name] = self.outside(parameter.default, name)
        try:
            definition = definition_of(fn)
        except ValueError as problem:
            raise self.error(ValueError, str(problem)) from problem
        frame = Frame(fn, definition, self.rule)
        frame.names = dict(given.arguments)
        self._frames.append(frame)
        result = self.run(frame)
        self._frames.pop()
        return result
