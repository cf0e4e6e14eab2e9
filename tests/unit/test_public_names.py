"""Docstrings of all public names, their methods and properties."""

import inspect
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

from prefect import Flow, Task

import prefect_tracktor
from prefect_tracktor import deploy, events, flows, sandbox, setup, tasks, tracking, webhooks

PACKAGES = [prefect_tracktor, deploy, events, flows, sandbox, setup, tracking, webhooks]


def public_names() -> dict[str, Any]:
    """Names in an `__all__`, and the tasks."""
    names = {f"{p.__name__}.{name}": getattr(p, name) for p in PACKAGES for name in p.__all__}
    return names | {f"tasks.{n}": value for n, value in vars(tasks).items() if is_of(value, Task)}


def is_of(value: Any, *kinds: Any) -> bool:
    return isinstance(value, kinds)


def documented() -> Iterator[tuple[str, Any]]:
    for name, value in public_names().items():
        if is_of(value, type, Flow, Task) or inspect.isroutine(value):
            yield name, getattr(value, "fn", value)
        if isinstance(value, type):
            yield from members(name, value)


def members(name: str, kind: type) -> Iterator[tuple[str, Any]]:
    ours = [base for base in kind.__mro__ if base.__module__.startswith("prefect_tracktor.")]
    for attribute in {key for base in ours for key in vars(base) if not key.startswith("_")}:
        value = inspect.getattr_static(kind, attribute)
        is_member = is_of(value, property, cached_property, classmethod, staticmethod, Callable)
        if is_member and not isinstance(value, type):
            yield f"{name}.{attribute}", getattr(kind, attribute)


def test_every_public_name_has_a_docstring() -> None:
    packages = ((package.__name__, package) for package in PACKAGES)
    found = dict([*packages, *documented()])
    assert [
        name for name, value in found.items() if not (inspect.getdoc(value) or "").strip()
    ] == []
    assert {"prefect_tracktor.Order.is_delivered", "tasks.get_order"} <= found.keys()
