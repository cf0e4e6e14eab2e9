"""Texts of reports: labels, sentences and advice for a run's counts."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

from prefect_tracktor.models import ExceptionStatus, ShipmentStatus

_LABELS: dict[str, str] = {
    str(status): status.label for status in (*ExceptionStatus, *ShipmentStatus)
}


@dataclass(frozen=True, slots=True)
class Wording:
    """Texts for a count: in a table, in a sentence, and what to do; `always`: also for zero."""

    label: str
    says: str = ""
    do: str = ""
    always: bool = False

    def sentence(self, count: int) -> str:
        """Fill in a number: `{} order[|s]` becomes "1 order" or "2 orders"."""
        form = 1 if count == 1 else 2
        return re.sub(r"\[(.*?)\|(.*?)\]", lambda forms: forms[form], self.says).format(
            f"{count:,}"
        )


_WORDS = (files(__package__) / "words.toml").read_text("utf-8")
WORDINGS = {name: Wording(**words) for name, words in tomllib.loads(_WORDS).items()}


def counts_in_words(counts: Mapping[str, int], *, mode: str = "") -> str:
    """Describe a run's result in a sentence, for its state message, log and summary."""
    parts = [
        word.sentence(counts[name])
        for name, word in WORDINGS.items()
        if word.says and name in counts and (counts[name] or word.always)
    ]
    parts += [
        f"{count:,} {name}" for name, count in counts.items() if count and name not in WORDINGS
    ]
    sentence = f"{in_list(parts) if parts else 'nothing to do'}."
    return f"{mode_label(mode)}: {sentence}" if mode else f"{sentence[:1].upper()}{sentence[1:]}"


def mode_label(*modes: str) -> str:
    """Return modes such as `dry_run` as a label."""
    return ", ".join(dict.fromkeys(modes)).replace("_", " ").capitalize()


def what_to_do(counts: Mapping[str, int]) -> list[str]:
    """Return what a person must do, as no later run will, one line each."""
    return [
        f"{word.sentence(counts[name])}: {word.do}."
        for name, word in WORDINGS.items()
        if word.do and counts.get(name)
    ]


def label_of(status: str) -> str:
    """Return the label of a status or an exception."""
    return _LABELS.get(status, status)


def shown(ids: Sequence[int], limit: int = 20) -> str:
    """List ids for a sentence, only the first of many."""
    named = ", ".join(map(str, ids[:limit]))
    more = len(ids) - limit
    return f"{named} and {more:,} more" if more > 0 else named or "none"


def in_list(words: Sequence[str]) -> str:
    """Join words for a sentence: "a, b and c"."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
