"""The words of messages: the shipped languages, with a shop's own words."""

import tomllib
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Any, Literal, get_args

from prefect_tracktor.errors import InvalidInput

About = Literal[
    "expired",
    "exception",
    "stalled",
    "not_shipped",
    "in_transit",
    "out_for_delivery",
    "delivered",
    "all_delivered",
    "status",
]
KINDS: tuple[About, ...] = get_args(About)
LANGUAGES = ("en", "de", "fr", "es")

SENTENCES = ("subject", "headline", "opening", "advice", "closing", "button", "why")
_NEEDED = ("subject", "opening", "closing", "why")


@cache
def shipped(language: str) -> dict[str, dict[str, str]]:
    """Return the words of a language by kind of message, and its labels; empty if not shipped."""
    if language not in LANGUAGES:
        return {}
    return tomllib.loads((files(__package__) / "languages" / f"{language}.toml").read_text("utf-8"))


def words_for(
    kind: str, language: str, own: Iterable[Any]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the sentences of a message, and its labels; `own` are the shop's `Words`."""
    default = shipped(language)
    sentences = default.get("any", {}) | default.get(kind, {})
    labels = dict(default.get("labels", {}))
    fitting = [w for w in own if w.language == language and w.about in {"any", kind}]
    for words in sorted(fitting, key=lambda w: w.about != "any"):
        given = {name: getattr(words, name) for name in SENTENCES}
        sentences |= {name: sentence for name, sentence in given.items() if sentence}
        labels |= words.labels
    return sentences, labels


def no_words(language: str) -> InvalidInput:
    """Return the error that a template has no words in a language."""
    return InvalidInput(
        f"language: there are no words in {language!r}: use {', '.join(LANGUAGES)}, or first add"
        " Words in it to the template"
    )


def missing_words(kind: str, language: str, own: Iterable[Any]) -> list[str]:
    """List the words that a language lacks for a message."""
    if language in LANGUAGES:
        return []
    sentences, labels = words_for(kind, language, own)
    needed = [name for name in _NEEDED if not sentences.get(name)]
    return [*needed, *(f"labels.{name}" for name in shipped("en")["labels"] if name not in labels)]
