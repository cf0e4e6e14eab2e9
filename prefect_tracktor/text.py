"""Masking of personal data and secrets for logs, artifacts and error messages."""

import re

from prefect_tracktor.errors import InvalidInput

# Good enough to find personal data in a text; never used to decide what is valid. Repetitions are
# bounded: a text may be long, and crafted to be slow to search.
_EMAIL = re.compile(
    r"""
    (?: "[^"\r\n]{1,64}" | [^\s@<>"'(),:;=&/]{1,64} )   # the local part, quoted or plain
    (?: @ | %40 )                                       # %40 in web addresses
    [^\s<>"'(),:;&/]{1,255}
    """,
    re.VERBOSE | re.IGNORECASE,
)
# With a plus sign, a leading zero, or in the North American groups: plain digits may be an id.
_PHONE = re.compile(
    r"""
    \+ \d [\d\s().-]{5,24} \d
    | (?<![\w.,:-]) \(? 0 \d (?: [\s()./-]{0,2} \d ){5,13} (?![\w-])
    | (?<![\w.,:-]) \(? \d{3} \)? [\s.-]{1,2} \d{3} [\s.-] \d{4} (?![\w-])
    """,
    re.VERBOSE,
)
_LONGEST_SEARCHED = 2_000
_OMISSION = "…"
_LENGTH_SHOWN = 12
_DIGITS_SHOWN = 6
_EXPONENT = re.compile(r"[eE][+-]?\d{1,3}$")
# letters only, in words joined by an underscore, a hyphen, a slash, or by a capital letter
_MACHINE_WORD = re.compile(r"[A-Za-z]+(?:[_/-][A-Za-z]+)*")
_PART = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_ENHANCED_STATUS = re.compile(r"[245]\.[0-7]\.\d{1,3}")
_REPLY_CODE = re.compile(r"[1-5]\d\d")
# pages of large mail providers that explain a refusal
_HELP_PAGE = re.compile(
    r"https?://(aka\.ms|(go|learn|support)\.microsoft\.com|support\.google\.com"
    r"|docs\.aws\.amazon\.com)/[\w./?=-]*"
)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# What servers say of errors. No word here is a common name of people or streets.
_PUBLIC = _words(
    """
    abort aborted absent accept accepted access account action active actively address addresses
    admin allowed already api app application argument attempt auth authenticate authenticated
    authentication authorization authorized automatic backend bad balance banned basic because
    blacklist blacklisted blocked blocklist blocklisted bounce broken bulk burst busy bytes
    cancelled cannot carrier certificate characters check client closed closing code column command
    complaint concurrency concurrent configuration configured conflict connect connecting connection
    constraint content corrupt create created credential credentials credits currently daily data
    database deadlock deferred delayed delete deleted delivered delivery denied denylist detected
    dial directory disabled disallowed disconnected disk dkim dmarc dns does domain downstream
    duplicate dynamic email empty enabled encountered encryption enforce entity entry error exceed
    exceeded exceeds exception execute exist existing exists expected expired failed failure false
    fatal fault for forbidden format forwarded found frequency frozen fulfillment full function
    gateway generic graphql greylisted greylisting handshake header helo hourly html http https
    identifier identity if illegal imap implemented inactive inbox incorrect information input
    insert insufficient integer internal invalid ip issue json label length limit limited listed
    local locked login looks lookup loop mail mailbox mails maintenance malformed maximum maybe
    memory message messages method mime minimum minute missing monthly moved multiple must nan
    network no none not null number oauth object occurred offline operation order our outgoing
    overload overloaded owned parameter parse password path payload payment per permanent
    permanently permission permitted plain plan please policy pool port postmaster problem
    prohibited property protocol proxy ptr query queue quota rate reached reason receive received
    recipient redirect refused reject rejected rejecting relation relay relaying repeated reputation
    request requested require required requires resolve resource resources response restricted
    result retry revoked role row saved schema scheme scope security send sender sending sent server
    service session sessions shop size smtp smtputf8 sorry spam spf sql ssl started starttls status
    storage store string submission submit such supplied support supported suspended suspicious
    syntax system table taken temporarily temporary terminated that the there these this thread
    threads threshold throttled throttling timeout tls token too topic tracking traffic transaction
    transient transport true try type unable unauthenticated unauthorised unauthorized unavailable
    undefined undeliverable unexpected unique unknown unprocessable unreachable unrecognized
    unrouteable unsolicited unsuccessful unsupported unusual unverified update upgrade upstream url
    use user username using uuid valid validation value variable verification verified verify
    version via violates violation virtual visit volume webhook wrong yes you your
    """
)
# In lower case only: with a capital letter some of these are names.
_PUBLIC_IN_LOWER_CASE = _words(
    """
    a about after again all an and another any are aren't as at be been before being between by can
    can't could couldn't didn't do doesn't don't each else fails few field file first from go had
    has have here high host how in into is isn't it its key later less like line low many may more
    most name near need now of off on once one only open or other out over own page pass reach read
    readonly second seconds see should since so some still than their them then they time to
    translate under until up us used was wasn't we were what when which while will with within
    without won't would write
    """
)
# As a part of a machine word, such as invalid_grant.
_PUBLIC_PARTS = _words(
    "argument as be cost field for grant id in incompatible is key literals max not of page to"
)
_TOP_LEVEL_DOMAIN = re.compile(r".*\.([a-z0-9-]{2,24})", re.IGNORECASE | re.DOTALL)


def mask_email(address: str | None) -> str:
    """Mask an email address; its first character and top-level domain stay."""
    if not address:
        return ""
    local, _, domain = address.strip().rpartition("@")
    top_level = _TOP_LEVEL_DOMAIN.fullmatch(domain)
    if not local or top_level is None:
        return "***"
    initial = local[0] if local[0].isalnum() else ""
    return f"{initial}***@***.{top_level[1]}"


def redact(text: str, *, secrets: tuple[str, ...] = ()) -> str:
    """Remove email addresses, phone numbers and the given secrets, in any letter case."""
    # the longest first: one secret may be a part of another
    known = sorted(filter(None, secrets), key=len, reverse=True)
    if known:
        text = re.sub("|".join(map(re.escape, known)), "[hidden]", text, flags=re.IGNORECASE)
    # with a hyphen: `public_words` takes "email" for a word of the server
    return _PHONE.sub("[phone]", _EMAIL.sub("[e-mail]", text))


def shortened(text: str, *, length: int = 200, secrets: tuple[str, ...] = ()) -> str:
    """Put a text on one short line, redacted."""
    line = " ".join(redact(text[: 10 * length], secrets=secrets).split())
    return line if len(line) <= length else line[:length] + "…"


def public_words(text: str, *, ours: str = "") -> str:
    """Keep only the words of a server's text that cannot be personal data."""
    known = frozenset(re.findall(r"\w+", ours.casefold()))
    shown: list[str] = []
    for place, token in enumerate(text[:_LONGEST_SEARCHED].split()):
        word = token.strip("\"'`.,:;!?()[]<>")
        code = place == 0 and _REPLY_CODE.fullmatch(word)
        fixed = _ENHANCED_STATUS.fullmatch(word) or _HELP_PAGE.fullmatch(word)
        if code or fixed or _is_public(word, known):
            ends = token[-1] if token[-1] in ".,:;!?" else ""
            shown.append(word + ends)
        elif shown[-1:] != [_OMISSION]:
            shown.append(_OMISSION)
    return "" if shown == [_OMISSION] else " ".join(shown)


def _is_public(word: str, known: frozenset[str]) -> bool:
    if word in _PUBLIC_IN_LOWER_CASE or word.casefold() in known | _PUBLIC:
        return True
    if not _MACHINE_WORD.fullmatch(word):
        return False
    parts = [part.lower() for part in _PART.findall(word)]
    public = [part in _PUBLIC or part.removesuffix("s") in _PUBLIC for part in parts]
    return any(public) and all(
        fits or part in _PUBLIC_PARTS for part, fits in zip(parts, public, strict=True)
    )


def public_error(error: Exception) -> str:
    """Describe a library's error by its type and the words that cannot be personal data."""
    return f"{type(error).__name__}: {public_words(str(error))}".removesuffix(": ")


def form_of(value: object) -> str:
    """Show a value that cannot be personal data; describe the form of any other."""
    if value is None:
        return "nothing"
    if isinstance(value, float) or type(value) is int:
        text = f"{value:.12g}" if abs(value) < 10**_DIGITS_SHOWN else ""
        return repr(text) if _is_harmless(text) else f"a number of type {type(value).__name__}"
    if isinstance(value, str):
        return _form_of_text(value.strip())
    return f"a {type(value).__name__}"


def _form_of_text(text: str) -> str:
    if not text:
        return "empty text"
    if _is_harmless(text):
        return repr(text)
    if text.isdecimal():
        return f"text of {len(text)} digits"
    if _EMAIL.fullmatch(text[:_LONGEST_SEARCHED]):
        return "an email address"
    return f"text of {len(text)} characters"


def _is_harmless(text: str) -> bool:
    """Whether a text is too short for a phone or tracking number, and holds no possible name."""
    if not 0 < len(text) <= _LENGTH_SHOWN or not text.isprintable():
        return False
    digits = sum(map(str.isdigit, _EXPONENT.sub("", text)))
    words = re.findall(r"[^\W\d_]{2,}", text)
    return digits <= _DIGITS_SHOWN and all(_is_public(word, frozenset()) for word in words)


def refuse_masked(secret: str, *, field: str) -> None:
    """Refuse the asterisks that Prefect puts in place of a secret."""
    if secret and not secret.strip("*"):
        raise InvalidInput(
            f"{field} is asterisks only: Prefect sends these in place of a secret when a block"
            " object is passed through run_deployment. Leave the parameter out, so that the"
            " deployment's own block is used, or pass the saved block by reference:"
            ' {"$ref": {"block_document_id": "..."}}'
        )
