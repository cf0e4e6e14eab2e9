"""Shopify's search syntax, as far as the sandbox's orders can be searched."""

import datetime as dt
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

Order = Mapping[str, Any]
Matches = Callable[[Order], bool]

_SPECIAL = r"""\s:()"'\\"""
_TOKEN = re.compile(
    rf"""
    (?P<mark>[()])
    | (?P<minus>-)(?=[^\s)])
    | (?: (?P<field>[A-Za-z_][A-Za-z_0-9.]*) : (?P<compare><=|>=|<|>)? )?
      (?: "(?P<double>(?:\\.|[^"\\])*)"
        | '(?P<single>(?:\\.|[^'\\])*)'
        | (?P<bare>(?:\\.|[^{_SPECIAL}])+) )
    """,
    re.VERBOSE,
)
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_CANCELLED = {"open": False, "not_closed": False, "closed": True, "cancelled": True}
_FULFILLMENT = {
    "fulfilled": "FULFILLED",
    "shipped": "FULFILLED",
    "unfulfilled": "UNFULFILLED",
    "unshipped": "UNFULFILLED",
    "partial": "PARTIALLY_FULFILLED",
    "scheduled": "SCHEDULED",
    "on_hold": "ON_HOLD",
    "request_declined": "REQUEST_DECLINED",
}


class MalformedSearch(ValueError):
    """The search breaks the syntax. Shopify itself is more lenient."""


class Search(NamedTuple):
    """Which orders match, and which filters were ignored, as `field` and `message` of each."""

    matches: Matches
    warnings: list[dict[str, str]]


class _Token(NamedTuple):
    kind: str
    field: str = ""
    compare: str = ""
    value: str = ""


def parse_search(text: str) -> Search:
    """Read a search."""
    reader = _Reader(list(_tokens(text)))
    matches = reader.alternatives() if reader.tokens else lambda _order: True
    if reader.tokens:
        raise MalformedSearch("a ) is too many")
    return Search(matches, reader.warnings)


def _tokens(text: str) -> Iterable[_Token]:
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        found = _TOKEN.match(text, position)
        if found is None:
            raise MalformedSearch(f"what begins at character {position + 1} is no term")
        position = found.end()
        yield _token(found)


def _token(found: re.Match[str]) -> _Token:
    if found["mark"]:
        return _Token(found["mark"])
    if found["minus"]:
        return _Token("NOT")
    if found["bare"] in {"AND", "OR", "NOT"} and not found["field"]:
        return _Token(found["bare"])
    value = next(text for text in found.group("double", "single", "bare") if text is not None)
    unescaped = re.sub(r"\\(.)", r"\1", value)
    return _Token("term", found["field"] or "", found["compare"] or "", unescaped)


class _Reader:
    """Reads tokens from the left; OR binds less than AND, which may be left out."""

    def __init__(self, tokens: list[_Token]) -> None:
        self.tokens = tokens
        self.warnings: list[dict[str, str]] = []

    def alternatives(self) -> Matches:
        options = [self._all_of()]
        while self._take("OR"):
            options.append(self._all_of())
        return lambda order: any(option(order) for option in options)

    def _all_of(self) -> Matches:
        terms = [self._term()]
        while self.tokens and self.tokens[0].kind not in {"OR", ")"}:
            self._take("AND")
            terms.append(self._term())
        return lambda order: all(term(order) for term in terms)

    def _term(self) -> Matches:
        if self._take("NOT"):
            negated = self._term()
            return lambda order: not negated(order)
        if self._take("("):
            inner = self.alternatives()
            if not self._take(")"):
                raise MalformedSearch("a ) is missing")
            return inner
        if not self.tokens or self.tokens[0].kind != "term":
            raise MalformedSearch("a term is missing")
        return self._condition(self.tokens.pop(0))

    def _take(self, kind: str) -> bool:
        if not self.tokens or self.tokens[0].kind != kind:
            return False
        self.tokens.pop(0)
        return True

    def _condition(self, term: _Token) -> Matches:
        try:
            return _condition(term)
        except _IgnoredError as ignored:
            warning = {"field": term.field, "message": str(ignored)}
            self.warnings.append(warning)
            return lambda _order: True


class _IgnoredError(ValueError):
    """Shopify would leave this filter out."""


def _condition(term: _Token) -> Matches:
    if not term.field:
        words = term.value.casefold()
        return lambda order: any(words in text.casefold() for text in _texts(order))
    if term.field in _VALUES:
        name, read = _VALUES[term.field]
        compare, value = _COMPARISONS[term.compare], read(term.value)
        return lambda order: compare(read(order[name]), value)
    if term.compare:
        raise _IgnoredError("is not compared by size")
    return _equality(term.field, term.value.casefold())


def _equality(field: str, wanted: str) -> Matches:
    match field:
        case "tag":
            return lambda order: wanted in {tag.casefold() for tag in order["tags"]}
        case "name":
            return lambda order: wanted.lstrip("#") == order["name"].casefold().lstrip("#")
        case "fulfillment_status" if wanted in _FULFILLMENT:
            return lambda order: order["displayFulfillmentStatus"] == _FULFILLMENT[wanted]
        case "status" if wanted in _CANCELLED:
            return lambda order: (order["cancelledAt"] is not None) == _CANCELLED[wanted]
        case "fulfillment_status" | "status":
            raise _IgnoredError("not an accepted value")
        case _:
            raise _IgnoredError("invalid search field for this query")


def _texts(order: Order) -> list[str]:
    return [order["name"], *order["tags"]]


def _time(text: str) -> dt.datetime:
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError:
        raise _IgnoredError("not a time") from None
    return time if time.tzinfo else time.replace(tzinfo=dt.UTC)


def _number(text: str) -> int:
    if not text.isdecimal():
        raise _IgnoredError("not a number")
    return int(text)


# filters by size: the order's field, and how to read it
_VALUES: dict[str, tuple[str, Callable[[str], Any]]] = {
    "created_at": ("createdAt", _time),
    "updated_at": ("updatedAt", _time),
    "id": ("legacyResourceId", _number),
}
