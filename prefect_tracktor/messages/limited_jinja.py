"""Jinja sandbox with a budget: templates only read data, and every rendering ends soon.

Each iteration, each call, and each character or item that is made costs something; an operation
that is too expensive is refused beforehand. So a template that loops forever, doubles a text, or
calls itself ends with an error that names its line.
"""

import json
import re
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator
from contextvars import ContextVar
from datetime import date
from functools import lru_cache, wraps
from typing import Any, Literal

from jinja2 import (
    StrictUndefined,
    Template,
    TemplateSyntaxError,
    UndefinedError,
    meta,
    nodes,
    pass_context,
)
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer
from pydantic import BaseModel

from prefect_tracktor.errors import InvalidInput, TemplateError
from prefect_tracktor.messages.values import one_line, web_address

_LONGEST_PART = 1_000_000
_TOO_LONG = f"it is longer than {_LONGEST_PART} characters"

# of values: none, as HTML, or for the inside of a JSON string
Escaping = bool | Literal["json"]

_BUDGET = 10_000_000
_STEP = 50
_SECONDS = 10.0
_MOST_EXPENSIVE_CALL = 5_000_000
_MOST_BITS = 4096
_WIDEST = 1000
# the time that the standard library takes grows with the square of the length
_LONGEST_WRAPPED = 50_000

# filters and methods whose arguments set the length of a text
_FILTERS_WITH_WIDTH = frozenset(
    {"batch", "center", "indent", "round", "slice", "tojson", "truncate", "wordwrap"}
)
_METHODS_WITH_WIDTH = frozenset(
    {"center", "expandtabs", "format", "format_map", "ljust", "rjust", "zfill"}
)
# the name in tracebacks of a Jinja template without a file
_TEMPLATE_FILE = "<template>"
_QUOTED = re.compile(r"'(\w+)'")
_WIDE_FORMAT = re.compile(r"%(\([^)]*\))?[^a-zA-Z%]*(\*|\d{4})")


class TooMuch(Exception):
    """A template exceeds its budget."""


class _Budget:
    """The budget of one rendering: costs, time and length."""

    def __init__(self) -> None:
        self._left = _BUDGET
        self._deadline = time.monotonic() + _SECONDS
        self._written = 0

    def spend(self, amount: int) -> None:
        self._left -= amount
        if self._left < 0 or time.monotonic() > self._deadline:
            raise TooMuch("it does more than any message needs: shorten its loops and texts")

    def write(self, text: str) -> None:
        self._written += len(text)
        if self._written > _LONGEST_PART:
            raise TooMuch(_TOO_LONG)
        self.spend(len(text))


_budget: ContextVar[_Budget] = ContextVar("budget of a rendering")


class LimitedEnvironment(ImmutableSandboxedEnvironment):
    """Jinja environment for templates that read an order's data, call no Python, and end soon."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def compiled(self, source: str) -> Template:
        """Compile a template with its costs counted."""
        return self.from_string(_Counting(self).visit(self.parse(source)))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        # pydantic's own methods can unpickle, and so run anything
        if isinstance(obj, BaseModel) and hasattr(BaseModel, attr):
            return False
        if isinstance(obj, str | bytes) and attr in _METHODS_WITH_WIDTH:
            return False
        return super().is_safe_attribute(obj, attr, value)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Refuse a result that would be too large, before it is made."""
        if operator in {"*", "**"}:
            _refuse_large(operator, left, right)
        elif operator == "%" and isinstance(left, str):
            _refuse_wide(left)
        return _bounded(super().call_binop(context, operator, left, right))

    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Count the costs of a call and its result."""
        # Jinja wraps these methods before it checks whether they are safe
        method = getattr(obj, "__wrapped__", obj)
        if not self.is_safe_attribute(
            getattr(method, "__self__", None), getattr(method, "__name__", ""), method
        ):
            raise SecurityError("a method that makes texts of any width")
        _refuse_expensive([getattr(obj, "__self__", None), *args, *kwargs.values()])
        return _bounded(super().call(context, obj, *args, **kwargs))


class _Counting(NodeTransformer):
    """Adds counting to loops, and to expressions that join values; `call` counts macros."""

    def __init__(self, environment: LimitedEnvironment) -> None:
        self._environment = environment

    def visit_For(self, node: nodes.For) -> Any:  # noqa: N802  # Jinja's names
        """Make each item cost a step, and each run of the body the length of its plain text."""
        self.generic_visit(node)
        node.iter = self._filter(node.iter, "_counted")
        length = sum(len(text.data) for text in node.find_all(nodes.TemplateData))
        cost = nodes.Const(length, lineno=node.lineno)
        node.body.insert(0, nodes.ExprStmt(self._filter(cost, "_spent"), lineno=node.lineno))
        return node

    def _joined(self, node: Any) -> Any:
        self.generic_visit(node)
        return node if getattr(node, "ctx", "load") != "load" else self._filter(node, "_bounded")

    visit_Concat = visit_List = visit_Tuple = visit_Dict = _joined  # noqa: N815

    def _filter(self, node: Any, name: str) -> nodes.Filter:
        counted = nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)
        counted.set_environment(self._environment)
        return counted


@pass_context
def _known_or_nothing(_context: Any, value: Any) -> Any:
    # or messages would say "Hello None"
    if value is None:
        return ""
    _budget.get().spend(_size(value))
    text = value if isinstance(value, str) else str(value)
    _budget.get().write(text)
    return value if isinstance(value, str) else text


class _Json(str):
    """A whole JSON value, not the inside of a string."""

    __slots__ = ()


@pass_context
def _in_json(context: Any, value: Any) -> str:
    # no value of an order can end the string that it stands in
    text = str(_known_or_nothing(context, value))
    return text if isinstance(value, _Json) else json.dumps(text, ensure_ascii=False)[1:-1]


def _to_json(value: Any) -> _Json:
    return _Json(json.dumps(value, ensure_ascii=False, default=_default_json))


def _default_json(value: Any) -> str:
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError("not JSON")


def _counted(items: Iterable[Any]) -> Iterator[Any]:
    for item in items:
        _budget.get().spend(_STEP)
        yield item


def _spent(length: int) -> str:
    _budget.get().spend(_STEP + length)
    return ""


def _bounded(value: Any) -> Any:
    _budget.get().spend(_STEP + _size(value))
    return value


def _limited(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    # some filters get Jinja's context before the value
    place = 1 if hasattr(function, "jinja_pass_arg") else 0

    @wraps(function)
    def limited(*args: Any, **kwargs: Any) -> Any:
        arguments = [*args, *kwargs.values()]
        _refuse_expensive(arguments)
        if name in _FILTERS_WITH_WIDTH:
            _refuse_numbers(arguments[place + 1 :])
        if name == "wordwrap" and _size(arguments[place]) > _LONGEST_WRAPPED:
            raise _too_large()
        if name == "format":
            _refuse_wide(str(args[0]))
        return _bounded(function(*args, **kwargs))

    return limited


def _size(value: Any, known: dict[int, int] | None = None) -> int:
    """Count characters and items as if written out: a value that occurs twice counts twice."""
    if isinstance(value, str | bytes | range):
        return len(value)
    if not isinstance(value, list | tuple | dict | set | frozenset):
        return value.bit_length() // 8 if isinstance(value, int) else 1
    known = {} if known is None else known
    if id(value) not in known:
        items = [*value, *value.values()] if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_size(item, known) for item in items)
    return known[id(value)]


def _refuse_expensive(values: list[Any]) -> None:
    """Refuse a call whose result, at most the product of two arguments' sizes, is too large."""
    sizes = sorted(map(_size, values))[-2:]
    if len(sizes) > 1 and sizes[0] * sizes[1] > _MOST_EXPENSIVE_CALL:
        raise _too_large()


def _refuse_numbers(values: list[Any]) -> None:
    if any(isinstance(value, int) and abs(value) > _WIDEST for value in values):
        raise _too_large()


def _refuse_wide(layout: str) -> None:
    if _WIDE_FORMAT.search(layout):
        raise _too_large()


def _refuse_large(operator: str, left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() * abs(right) if operator == "**" else left.bit_length()
        if bits + right.bit_length() > _MOST_BITS:
            raise _too_large()
        return
    for text, times in ((left, right), (right, left)):
        sized = isinstance(text, str | bytes | list | tuple)
        if sized and isinstance(times, int) and _size(text) * times > _BUDGET:
            raise _too_large()


def _too_large() -> TooMuch:
    return TooMuch("it makes a text or a number larger than any message needs")


def check_template(field: str, source: str, names: Collection[str], *, escape: Escaping) -> None:
    """Refuse a template with a syntax error or an unknown name."""
    environment = _environment(escape=escape)
    try:
        tree = environment.parse(source)
        unknown = meta.find_undeclared_variables(tree) - environment.globals.keys() - set(names)
        _compiled(source, escape=escape)
    except TemplateSyntaxError as wrong:
        raise InvalidInput(f"{field}, line {wrong.lineno}: {wrong.message}") from None
    except (RecursionError, SyntaxError, MemoryError):  # Python's own limits
        raise InvalidInput(f"{field}: it is nested too deeply: simplify it") from None
    if unknown:
        raise InvalidInput(
            f"{field}: unknown name {', '.join(sorted(unknown))}; a template may use"
            f" {', '.join(names)}"
        )
    if any(meta.find_referenced_templates(tree)):
        raise InvalidInput(f"{field}: a template stands alone; write out what it includes")


def render_template(
    field: str,
    source: str,
    context: dict[str, Any],
    *,
    escape: Escaping,
    block: str = "EmailTemplate",
) -> str:
    """Render a template within its budget."""
    if not escape and "{" not in source and len(source) < _LONGEST_PART:
        return source  # nothing to fill in
    _budget.set(_Budget())
    try:
        part = _compiled(source, escape=escape).render(context)
    except Exception as wrong:  # noqa: BLE001  # a template may divide by zero, call a number ...
        problem = _diagnosis(wrong, source)
        raise failure(field, context["order"].order_id, problem, block=block) from None
    if len(part) > _LONGEST_PART:
        raise failure(field, context["order"].order_id, _TOO_LONG, block=block)
    return part


def failure(
    field: str, order_id: int, problem: str, *, block: str = "EmailTemplate"
) -> TemplateError:
    """Return the error that a part of a message cannot be rendered."""
    return TemplateError(
        f"the {block}'s {field} fails for order {order_id}: {problem}. Nothing was sent: correct"
        f" the {block} block.",
        may_have_arrived=False,
    )


@lru_cache(maxsize=3)
def _environment(*, escape: Escaping) -> "LimitedEnvironment":
    environment = LimitedEnvironment(
        undefined=StrictUndefined,
        autoescape=escape is True,
        finalize=_in_json if escape == "json" else _known_or_nothing,
        trim_blocks=True,
        lstrip_blocks=True,
        optimized=False,  # nothing is evaluated before there is a budget
    )
    environment.globals = {"range": environment.globals["range"]}
    filters = environment.filters | ({"tojson": _to_json} if escape == "json" else {})
    environment.filters = {name: _limited(name, function) for name, function in filters.items()}
    counting = {"_counted": _counted, "_spent": _spent, "_bounded": _bounded}
    environment.filters |= counting | {"web_address": web_address, "one_line": one_line}
    return environment


@lru_cache(maxsize=1024)
def _compiled(source: str, *, escape: Escaping) -> Template:
    return _environment(escape=escape).compiled(source)


def _diagnosis(wrong: Exception, source: str) -> str:
    """Describe line and cause, without words of Jinja that are not in the template."""
    lines = [
        line
        for frame, line in traceback.walk_tb(wrong.__traceback__)
        if frame.f_code.co_filename == _TEMPLATE_FILE
    ]
    place = f"line {lines[-1]}: " if lines else ""
    if isinstance(wrong, TooMuch):
        return f"{place}{wrong}"
    if isinstance(wrong, SecurityError):
        return f"{place}it uses something that templates may not use"
    if isinstance(wrong, UndefinedError):
        names = [name for name in _QUOTED.findall(str(wrong)) if name in source]
        return f"{place}unknown name {names[-1]}" if names else f"{place}unknown name"
    return f"{place}{type(wrong).__name__}"
