"""SMTP replies: the cause of a refusal, and its remedy.

Three decisions depend on it: whether an address is given up (`is_final`), whether to wait and try
again (`RATE`), and which remedy is named.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from prefect_tracktor.text import public_words

_LONGEST_QUOTE = 200
_PERMANENT = range(500, 600)

# RFC 3463; anywhere, as some servers write "(#5.1.1)", but not within a network address
_ENHANCED_STATUS = re.compile(r"(?<![\d.])[45]\.(\d{1,3}\.\d{1,3})(?!\.?\d)")


class Cause(StrEnum):
    """The cause of a refusal."""

    RECIPIENT = "recipient"
    LOGIN = "login"
    SENDER = "sender"
    LIMIT = "limit"
    RATE = "rate"
    OTHER = "other"

    @property
    def remedy(self) -> str:
        return _REMEDIES[self]


_REMEDIES = {
    Cause.RECIPIENT: "If it says this for every address, host of the Mailer block may be a server"
    " that only receives: use the one that your provider names for sending.",
    Cause.LOGIN: "It requires a login, or encryption before it: set username, password and security"
    " (starttls or tls) of the Mailer block.",
    Cause.SENDER: "Use a sender address that this account may write from: one that is verified at"
    " the provider, with SPF and DKIM set up for its domain.",
    Cause.LIMIT: "The account has reached a limit of the provider: wait until it is over, or have"
    " it raised; the next run goes on.",
    Cause.RATE: "Set messages_per_second to what the provider allows; the next run goes on.",
    Cause.OTHER: "If the next run gets the same reply, ask the provider, or see the server's log.",
}

# by subject and detail of the enhanced status (RFC 3463, 5248, and codes of large providers)
_BY_STATUS = (
    (Cause.SENDER, re.compile(r"1\.[78]|2\.252|7\.(2\d|60)")),
    (Cause.LIMIT, re.compile(r"1\.90")),
    (Cause.LOGIN, re.compile(r"7\.([89]|1[0-4]|30|57|139)")),
    (Cause.RECIPIENT, re.compile(r"1\.([1-6]|9|10)|6\.7")),
)
_BY_CODE = {432: Cause.RATE, 530: Cause.LOGIN, 534: Cause.LOGIN, 535: Cause.LOGIN, 538: Cause.LOGIN}
# too many messages; whether a retry helps depends on the reply code
_CONGESTED = re.compile(r"4\.5|7\.28")

# in this order: a day's limit is often called a rate
_BY_WORDS = {
    Cause.LIMIT: r"""daily | per[ -](day|hour|month) | 24[ -]?h | hourly | monthly | credits?\b
        | message[ ]quota | sending[ ](limit|quota)""",
    Cause.RATE: r"""throttl | rate[ -](limit|control|is[ ]too|too|exceeded)
        | (sending|connection|message|mail|unusual)[ ]rate
        | frequen(t|cy) | velocity | burst | flood
        | per[ ](\d+[ ])?(sec|min) | /[ ]?(s|sec|seconds?|min|minutes?)\b | too[ ](fast|quickly)
        | concurren | number[ ]of[ ](connections|sessions|messages) | thread[ ]limit | relay[ ]limit
        | excessive | (unexpected|high)[ ]volume
        | too[ ](many|much)[ ](\w+[ ]){0,3}(e?-?mails?|messages|connections|sessions)
        | slow(er)?[ ]?down | send[ ].*slow | server[ ]busy""",
    Cause.LOGIN: r"""authenticat\w+[ ](is[ ])?(required|needed|first) | not[ ]authenticated
        | starttls | log[ ]?in[ ]first | to[ ]relay
        | relay(ing)?[ ](access[ ])?(denied|not|prohibit)""",
    Cause.SENDER: r"""send[ ]?as | not[ ]verified | unverified | unauthenticated | sender
        | from[ ](address|domain) | (allowed|permitted|authorized)[ ]to[ ]send
        | \b(spf|dkim|dmarc)\b""",
}
_WORDS = {
    cause: re.compile(words, re.IGNORECASE | re.VERBOSE) for cause, words in _BY_WORDS.items()
}

_BAD_SENDER = re.compile(r"1\.[78]")
_NO_SUCH_MAILBOX = re.compile(r"1\.([1-6]|9|10)|2\.1")
_MAY_MEAN_NO_SUCH_MAILBOX = {501, 550, 551, 553}
# without a status these words are required, as an address that is given up is never tried again
_SAYS_NO_SUCH_MAILBOX = re.compile(
    r"""(no[ ]such | unknown | invalid | bad | non-?existent | unrout\w+ | undeliverable | illegal)
        \b [^.;]{0,20} \b (user | recipient | mailbox | address | account | domain | host | person)
    | (user | recipient | mailbox | addressee? | account | domain | host | local[ -]part)
        \b [^.;]{0,40} \b (unknown | invalid | unavailable | disabled | inactive
        | not[ ](found | known | local | valid | exist) | does[ ]?n[o']t[ ]exist | no[ ]longer)
    | no[ ](user | mailbox | valid[ ]recipient)s? \b | no[ ]such | does[ ]?n[o']t[ ]exist
    | not[ ]our[ ]customer""",
    re.IGNORECASE | re.VERBOSE,
)
_BLAMES_SENDING = re.compile(
    r"relay|sender|helo|polic|spam|auth|block|black|denied|prohibit|not allowed|rcpthosts|rate"
    r"|quota|limit|too m|reputation|\bip\b|\bdns\b|tempora|later|try again|gr[ae]y",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Reply:
    """A negative reply."""

    code: int
    text: str
    to_recipient: bool = False

    def __str__(self) -> str:
        """Return the code, and the words that cannot be personal data or a part of the login."""
        return public_words(f"{self.code} {self.text}")[:_LONGEST_QUOTE]

    @property
    def kind(self) -> str:
        """The code and the enhanced status, which are the same in equal refusals."""
        return " ".join([str(self.code), *self._statuses[:1]])

    @property
    def is_final(self) -> bool:
        """Whether it surely says that the recipient does not exist."""
        if not self.to_recipient or self.code not in _PERMANENT:
            return False
        if self._statuses:
            return all(map(_NO_SUCH_MAILBOX.fullmatch, self._statuses))
        if self.code not in _MAY_MEAN_NO_SUCH_MAILBOX or _BLAMES_SENDING.search(self.text):
            return False
        return _SAYS_NO_SUCH_MAILBOX.search(self.text) is not None

    @property
    def blames_sender(self) -> bool:
        """Whether it refuses the sender, for every recipient."""
        return self.code in _PERMANENT and any(map(_BAD_SENDER.fullmatch, self._statuses))

    @property
    def cause(self) -> Cause:
        """The cause, by the enhanced status, or else by the code, or else by the words."""
        if self.is_final:
            return Cause.RECIPIENT
        return self._by_status or _BY_CODE.get(self.code) or self._by_words or self._by_place

    @property
    def _statuses(self) -> list[str]:
        return _ENHANCED_STATUS.findall(self.text)

    @property
    def _by_status(self) -> Cause | None:
        status = next(iter(self._statuses), "")
        if _CONGESTED.fullmatch(status):
            return Cause.LIMIT if self.code in _PERMANENT else Cause.RATE
        return next((cause for cause, known in _BY_STATUS if known.fullmatch(status)), None)

    @property
    def _by_words(self) -> Cause | None:
        return next((cause for cause, words in _WORDS.items() if words.search(self.text)), None)

    @property
    def _by_place(self) -> Cause:
        # a temporary refusal of RCPT is about the mailbox
        status = next(iter(self._statuses), "")
        later = self.to_recipient and self.code not in _PERMANENT
        mailbox = status.startswith("2.") or (later and not status.startswith(("3.", "4.")))
        return Cause.RECIPIENT if mailbox else Cause.OTHER
