"""Generic classes on all supported versions of Python."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from typing import Any, Generic

import pytest

import prefect_tracktor
from prefect_tracktor.bulk import Batch
from prefect_tracktor.models import Order


def _generic_classes() -> Iterator[type[Any]]:
    for module in pkgutil.walk_packages(prefect_tracktor.__path__, "prefect_tracktor."):
        if not module.name.endswith("__main__"):
            for value in vars(importlib.import_module(module.name)).values():
                ours = getattr(value, "__module__", "").startswith("prefect_tracktor")
                is_generic = isinstance(value, type) and Generic in value.__bases__
                if ours and is_generic and not inspect.isabstract(value):
                    yield value


@pytest.mark.parametrize("kind", sorted(set(_generic_classes()), key=str))
def test_a_generic_class_accepts_its_type_parameter(kind: type) -> None:
    # `Kind[T]()` sets this attribute; any error but AttributeError reaches the caller
    instance: Any = object.__new__(kind)
    try:
        instance.__orig_class__ = kind
    except AttributeError:
        return
    assert instance.__orig_class__ is kind


def test_an_empty_batch_of_orders_can_be_created() -> None:
    assert Batch[Order]() == Batch()
