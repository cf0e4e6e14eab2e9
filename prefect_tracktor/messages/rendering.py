"""Jinja within limits: templates read data, and whatever they do ends soon.

A rendering has a budget. Each step of a loop, each call, and each character or item that is made
costs; what would cost too much at once is refused before it is made. So a template that loops for
ever, doubles a text, or calls itself ends with an error that has its line.
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

# of values: not at all, as HTML, or as the inside of a JSON string
Escaping = bool | Literal["json"]

_BUDGET = 10_000_000
_STEP = 50
_SECONDS = 10.0
_DEAREST_CALL = 5_000_000
_MOST_BITS = 4096
_WIDEST = 1000
# the standard library's time for it grows with the square
_LONGEST_WRAPPED = 50_000

# what makes a text as long as a number says
_FILTERS_WITH_WIDTH = frozenset(
    {"batch", "center", "indent", "round", "slice", "tojson", "truncate", "wordwrap"}
)
_METHODS_WITH_WIDTH = frozenset(
    {"center", "expandtabs", "format", "format_map", "ljust", "rjust", "zfill"}
)
# how Jinja names a template without a file in tracebacks
_TEMPLATE_FILE = "<template>"
_QUOTED = re.compile(r"'(\w+)'")
_WIDE_FORMAT = re.compile(r"%(\([^)]*\))?[^a-zA-Z%]*(\*|\d{4})")


class TooMuch(Exception):
    """A template does more than any message needs."""


class TooLong(TooMuch):
    """What comes of a template is too long."""


class _Budget:
    """What is left of a rendering's allowance."""

    def __init__(self) -> None:
        self._left = _BUDGET
        self._ends = time.monotonic() + _SECONDS
        self._written = 0

    def spend(self, amount: int) -> None:
        self._left -= amount
        if self._left < 0 or time.monotonic() > self._ends:
            raise TooMuch("it does more than any message needs: shorten its loops and texts")

    def write(self, text: str) -> None:
        self._written += len(text)
        if self._written > _LONGEST_PART:
            raise TooLong(_TOO_LONG)
        self.spend(len(text))


_budget: ContextVar[_Budget] = ContextVar("budget of a rendering")


class LimitedEnvironment(ImmutableSandboxedEnvironment):
    """Lets templates read what an order holds, call no Python, and never run away."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def compiled(self, source: str) -> Template:
        """Compile a template, with what keeps count put in."""
        return self.from_string(_Counting(self).visit(self.parse(source)))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Pydantic's own methods can unpickle, and so run anything."""
        if isinstance(obj, BaseModel) and hasattr(BaseModel, attr):
            return False
        if isinstance(obj, str | bytes) and attr in _METHODS_WITH_WIDTH:
            return False
        return super().is_safe_attribute(obj, attr, value)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Refuse what would be too long or too large, before it is made."""
        if operator in {"*", "**"}:
            _refuse_large(operator, left, right)
        elif operator == "%" and isinstance(left, str):
            _refuse_wide(left)
        return _bounded(super().call_binop(context, operator, left, right))

    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Count each call, and what it makes."""
        # Jinja wraps these before it asks whether they are safe
        method = getattr(obj, "__wrapped__", obj)
        if not self.is_safe_attribute(
            getattr(method, "__self__", None), getattr(method, "__name__", ""), method
        ):
            raise SecurityError("a method that makes texts of any width")
        _refuse_dear([getattr(obj, "__self__", None), *args, *kwargs.values()])
        return _bounded(super().call(context, obj, *args, **kwargs))


class _Counting(NodeTransformer):
    """Puts counting into loops, macros, and whatever joins values to larger ones."""

    def __init__(self, environment: LimitedEnvironment) -> None:
        self._environment = environment

    def visit_For(self, node: nodes.For) -> Any:  # noqa: N802  # Jinja's names
        self.generic_visit(node)
        node.iter = self._filter(node.iter, "_counted")
        return self._counting(node)

    def visit_Macro(self, node: nodes.Macro) -> Any:  # noqa: N802
        self.generic_visit(node)
        return self._counting(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> Any:  # noqa: N802
        self.generic_visit(node)
        return self._counting(node)

    def _joined(self, node: Any) -> Any:
        self.generic_visit(node)
        return node if getattr(node, "ctx", "load") != "load" else self._filter(node, "_bounded")

    visit_Concat = visit_List = visit_Tuple = visit_Dict = _joined  # noqa: N815

    def _counting(self, node: Any) -> Any:
        """A body that costs, each time, what it holds of plain text."""
        length = sum(len(text.data) for text in node.find_all(nodes.TemplateData))
        cost = nodes.Const(length, lineno=node.lineno)
        node.body.insert(0, nodes.ExprStmt(self._filter(cost, "_spent"), lineno=node.lineno))
        return node

    def _filter(self, node: Any, name: str) -> nodes.Filter:
        made = nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)
        made.set_environment(self._environment)
        return made


@pass_context
def _known_or_nothing(_context: Any, value: Any) -> Any:
    """Nobody is to read "Hello None"."""
    if value is None:
        return ""
    _budget.get().spend(_size(value))
    text = value if isinstance(value, str) else str(value)
    _budget.get().write(text)
    return value if isinstance(value, str) else text


class _Json(str):
    """Whole JSON, and not the inside of a string."""

    __slots__ = ()


@pass_context
def _in_json(context: Any, value: Any) -> str:
    """No value of an order can end the string that it stands in."""
    text = str(_known_or_nothing(context, value))
    return text if isinstance(value, _Json) else json.dumps(text, ensure_ascii=False)[1:-1]


def _to_json(value: Any) -> _Json:
    return _Json(json.dumps(value, ensure_ascii=False, default=_plain))


def _plain(value: Any) -> str:
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError("no JSON")


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
    # some get what they are called in before the value
    place = 1 if hasattr(function, "jinja_pass_arg") else 0

    @wraps(function)
    def limited(*args: Any, **kwargs: Any) -> Any:
        given = [*args, *kwargs.values()]
        _refuse_dear(given)
        if name in _FILTERS_WITH_WIDTH:
            _refuse_numbers(given[place + 1 :])
        if name == "wordwrap" and _size(given[place]) > _LONGEST_WRAPPED:
            raise _too_large()
        if name == "format":
            _refuse_wide(str(args[0]))
        return _bounded(function(*args, **kwargs))

    return limited


def _size(value: Any, known: dict[int, int] | None = None) -> int:
    """Characters and items, written out: what stands in it twice counts twice."""
    if isinstance(value, str | bytes | range):
        return len(value)
    if not isinstance(value, list | tuple | dict | set | frozenset):
        return value.bit_length() // 8 if isinstance(value, int) else 1
    known = {} if known is None else known
    if id(value) not in known:
        items = [*value, *value.values()] if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_size(item, known) for item in items)
    return known[id(value)]


def _refuse_dear(values: list[Any]) -> None:
    """Replacing, joining and indenting make at most the product of two of their arguments."""
    sizes = sorted(map(_size, values))[-2:]
    if len(sizes) > 1 and sizes[0] * sizes[1] > _DEAREST_CALL:
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
    """Refuse a template that has a fault, or uses a name that it is not given."""
    environment = _environment(escape=escape)
    try:
        tree = environment.parse(source)
        unknown = meta.find_undeclared_variables(tree) - environment.globals.keys() - set(names)
        _compiled(source, escape=escape)
    except TemplateSyntaxError as wrong:
        raise InvalidInput(f"{field}, line {wrong.lineno}: {wrong.message}") from None
    except (RecursionError, SyntaxError, MemoryError):  # Python's own limits
        raise InvalidInput(f"{field}: it is nested too deeply: make it simpler") from None
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
    """Render a template within limits."""
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
    """The error that a part of a message cannot be written."""
    whose = "the email template's" if block == "EmailTemplate" else f"the {block}'s"
    return TemplateError(
        f"{whose} {field} fails for order {order_id}: {problem}. Nothing was sent: correct the"
        f" {block} block.",
        may_have_arrived=False,
    )


@lru_cache(maxsize=3)
def _environment(*, escape: Escaping) -> "LimitedEnvironment":
    made = LimitedEnvironment(
        undefined=StrictUndefined,
        autoescape=escape is True,
        finalize=_in_json if escape == "json" else _known_or_nothing,
        trim_blocks=True,
        lstrip_blocks=True,
        optimized=False,  # nothing is worked out before there is a budget
    )
    made.globals = {"range": made.globals["range"]}
    if escape == "json":
        made.filters["tojson"] = _to_json
    made.filters = {name: _limited(name, function) for name, function in made.filters.items()}
    ours = {"_counted": _counted, "_spent": _spent, "_bounded": _bounded}
    made.filters |= ours | {"web_address": web_address, "one_line": one_line}
    return made


@lru_cache(maxsize=1024)
def _compiled(source: str, *, escape: Escaping) -> Template:
    return _environment(escape=escape).compiled(source)


def _diagnosis(wrong: Exception, source: str) -> str:
    """Line and cause. Of Jinja's words only names from the template: others may be a customer's."""
    lines = [
        line
        for frame, line in traceback.walk_tb(wrong.__traceback__)
        if frame.f_code.co_filename == _TEMPLATE_FILE
    ]
    place = f"line {lines[-1]}: " if lines and not isinstance(wrong, TooLong) else ""
    if isinstance(wrong, TooMuch):
        return f"{place}{wrong}"
    if isinstance(wrong, SecurityError):
        return f"{place}it reaches for something that templates may not use"
    if isinstance(wrong, UndefinedError):
        names = [name for name in _QUOTED.findall(str(wrong)) if name in source]
        return f"{place}unknown name {names[-1]}" if names else f"{place}unknown name"
    return f"{place}{type(wrong).__name__}"
