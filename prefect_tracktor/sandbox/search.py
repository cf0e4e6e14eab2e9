"""Shopify's search syntax, as far as the sandbox supports it."""

import datetime as dt
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

Order = Mapping[str, Any]
Matches = Callable[[Order], bool]

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<mark> [()] | -(?=[^\s)]) | (?:AND|OR|NOT)(?=[\s()]|$) )
    | (?: (?P<field>[A-Za-z_][A-Za-z_0-9.]*) : (?P<compare><=|>=|<|>)? )?
      (?: "(?P<double>(?:\\.|[^"\\])*)"
        | '(?P<single>(?:\\.|[^'\\])*)'
        | (?P<bare>(?:\\.|[^\s:()"'\\])+) )
    )""",
    re.VERBOSE | re.DOTALL,
)
_COMPARISONS: dict[str | None, Callable[[Any, Any], bool]] = {
    None: operator.eq,
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


class _IgnoredError(ValueError):
    """A filter that Shopify ignores."""


class Search(NamedTuple):
    """A parsed search: the condition for orders, and a warning for each ignored filter."""

    matches: Matches
    warnings: list[dict[str, str]]


def parse_search(text: str) -> Search:
    parser = _Parser(list(_tokens(text.rstrip())))
    matches = parser.alternatives() if parser.tokens else lambda _order: True
    if parser.tokens:
        raise MalformedSearch("there is a ) without a (")
    return Search(matches, parser.warnings)


def _tokens(text: str) -> Iterator[re.Match[str]]:
    position = 0
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise MalformedSearch(f"there is no valid term at character {position + 1}")
        yield found
        position = found.end()


class _Parser:
    """Recursive descent parser; AND, which is optional, binds more strongly than OR."""

    def __init__(self, tokens: list[re.Match[str]]) -> None:
        self.tokens = tokens
        self.warnings: list[dict[str, str]] = []

    def alternatives(self) -> Matches:
        options = [self._all_of()]
        while self._take("OR"):
            options.append(self._all_of())
        return lambda order: any(option(order) for option in options)

    def _all_of(self) -> Matches:
        terms = [self._term()]
        while self.tokens and self.tokens[0]["mark"] not in {"OR", ")"}:
            self._take("AND")
            terms.append(self._term())
        return lambda order: all(term(order) for term in terms)

    def _term(self) -> Matches:
        if self._take("NOT", "-"):
            negated = self._term()
            return lambda order: not negated(order)
        if self._take("("):
            inner = self.alternatives()
            if not self._take(")"):
                raise MalformedSearch("a ) is missing")
            return inner
        if not self.tokens or self.tokens[0]["mark"]:
            raise MalformedSearch("a term is missing")
        term = self.tokens.pop(0)
        try:
            return _condition(term)
        except _IgnoredError as ignored:
            self.warnings.append({"field": term["field"], "message": str(ignored)})
            return lambda _order: True

    def _take(self, *marks: str) -> bool:
        is_next = bool(self.tokens) and self.tokens[0]["mark"] in marks
        if is_next:
            self.tokens.pop(0)
        return is_next


def _condition(term: re.Match[str]) -> Matches:
    given = next(text for text in term.group("double", "single", "bare") if text is not None)
    value = re.sub(r"(?s)\\(.)", r"\1", given)
    wanted = value.casefold()
    match term["field"]:
        case None:
            return lambda order: any(
                wanted in text.casefold() for text in (order["name"], *order["tags"])
            )
        case "created_at" | "updated_at" | "id" as field:
            return _by_comparison(field, value, _COMPARISONS[term["compare"]])
        case _ if term["compare"]:
            raise _IgnoredError("cannot be compared with < or >")
        case field:
            return _by_word(field, wanted)


def _by_word(field: str, wanted: str) -> Matches:
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


def _by_comparison(field: str, value: str, compare: Callable[[Any, Any], bool]) -> Matches:
    if field == "id":
        if not value.isdecimal():
            raise _IgnoredError("not a number")
        number = int(value)
        return lambda order: compare(int(order["legacyResourceId"]), number)
    name = {"created_at": "createdAt", "updated_at": "updatedAt"}[field]
    time = _time(value)
    return lambda order: compare(_time(order[name]), time)


def _time(text: str) -> dt.datetime:
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError:
        raise _IgnoredError("not a time") from None
    return time if time.tzinfo else time.replace(tzinfo=dt.UTC)
