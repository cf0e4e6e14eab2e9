"""A run's counts in words: what people call them, a sentence, what to do next."""

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
    """A count as people know it: in a table, in a sentence, what to do; `always`: also if zero."""

    label: str
    says: str = ""
    do: str = ""
    always: bool = False

    def sentence(self, count: int) -> str:
        """What it says of a number: `{} order[|s]` is one order, or two orders."""
        form = 1 if count == 1 else 2
        return re.sub(r"\[(.*?)\|(.*?)\]", lambda forms: forms[form], self.says).format(
            f"{count:,}"
        )


_WORDS = (files(__package__) / "words.toml").read_text("utf-8")
WORDINGS = {name: Wording(**words) for name, words in tomllib.loads(_WORDS).items()}


def counts_in_words(counts: Mapping[str, int], *, mode: str = "") -> str:
    """Say in a sentence what a run did, for its state message, log and summary."""
    said = [
        word.sentence(counts[name])
        for name, word in WORDINGS.items()
        if word.says and name in counts and (counts[name] or word.always)
    ]
    said += [
        f"{count:,} {name}" for name, count in counts.items() if count and name not in WORDINGS
    ]
    sentence = f"{in_list(said) if said else 'nothing to do'}."
    return f"{mode_label(mode)}: {sentence}" if mode else f"{sentence[:1].upper()}{sentence[1:]}"


def mode_label(*modes: str) -> str:
    """Modes such as `dry_run`, for people."""
    return ", ".join(dict.fromkeys(modes)).replace("_", " ").capitalize()


def what_to_do(counts: Mapping[str, int]) -> list[str]:
    """What a person does about what no later run will do, one line each."""
    return [
        f"{word.sentence(counts[name])}: {word.do}."
        for name, word in WORDINGS.items()
        if word.do and counts.get(name)
    ]


def label_of(status: str) -> str:
    """A status as people know it."""
    return _LABELS.get(status, status)


def shown(ids: Sequence[int], limit: int = 20) -> str:
    """Name ids in a sentence, the first few of them if there are many."""
    named = ", ".join(map(str, ids[:limit]))
    more = len(ids) - limit
    return f"{named} and {more:,} more" if more > 0 else named or "none"


def in_list(words: Sequence[str]) -> str:
    """Write words as a list in a sentence."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
