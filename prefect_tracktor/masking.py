"""Personal data made unreadable, for logs, artifacts and error messages."""

import re
from base64 import b64encode

from prefect_tracktor.errors import InvalidInput

# Good enough to find personal data in somebody's words; never used to decide what is valid.
# Repetitions are bounded, since what is searched may be long and made to be slow to search.
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
# from six characters on: shorter pieces are words of any language, and give nothing away
_BASE64 = re.compile(r"[A-Za-z0-9+/]{6,}={0,2}")
_TOP_LEVEL_DOMAIN = re.compile(r".*\.([a-z0-9-]{2,24})", re.IGNORECASE | re.DOTALL)


def mask_email(address: str | None) -> str:
    """Keep of an e-mail address what lets its owner's order be recognised, and no more.

    Args:
        address: An e-mail address, or nothing.

    Returns:
        The first letter and the top-level domain; only asterisks for what is no address, and an
        empty string for nothing.

    Example:
        >>> mask_email("ada@example.com")
        'a***@***.com'
        >>> mask_email("Ada Lovelace")
        '***'
    """
    if not address:
        return ""
    local, _, domain = address.strip().rpartition("@")
    top_level = _TOP_LEVEL_DOMAIN.fullmatch(domain)
    if not local or top_level is None:
        return "***"
    initial = local[0] if local[0].isalnum() else ""
    return f"{initial}***@***.{top_level[1]}"


def redact(text: str, *, secrets: tuple[str, ...] = ()) -> str:
    """Take e-mail addresses, phone numbers and the given secrets out of somebody else's words.

    Args:
        text: For example what a server said about an error.
        secrets: Strings that must not be seen, such as the API key.

    Returns:
        The text with each find replaced by a word for it. Plain digits stay: they may be an id.

    Example:
        >>> redact("no ada@example.com, no +49 30 1234567, no s3cret", secrets=("s3cret",))
        'no [e-mail], no [phone], no [hidden]'
    """
    # the longest first: one secret may be a part of another
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "[hidden]")
    return _PHONE.sub("[phone]", _EMAIL.sub("[e-mail]", text))


def hide_login(text: str, *, username: str, password: str) -> str:
    """Take a login out of somebody else's words, also as SMTP writes it.

    Args:
        text: For example a mail server's reply, which may repeat the command that it refuses.
        username: The user name; it stays where it stands in plain text.
        password: The password.

    Returns:
        The text without the password, and without any piece of the base64 that a login sends.

    Example:
        >>> hide_login("AUTH PLAIN AHNob3AAczNjcmV0 is wrong", username="shop", password="s3cret")
        'AUTH PLAIN [hidden] is wrong'
    """
    if not password:
        return text
    user, secret = username.encode(), password.encode("utf-8", "surrogatepass")
    sent = [b64encode(part).decode().casefold() for part in _as_sent(user, secret)]

    def hidden(token: re.Match[str]) -> str:
        piece = token[0].rstrip("=").casefold()
        return "[hidden]" if any(piece in whole for whole in sent) else token[0]

    text = re.sub(re.escape(password), "[hidden]", text, flags=re.IGNORECASE)
    return _BASE64.sub(hidden, text)


def _as_sent(user: bytes, secret: bytes) -> tuple[bytes, ...]:
    """What PLAIN, with and without an identity, and LOGIN encode."""
    return (
        b"\0" + user + b"\0" + secret,
        user + b"\0" + user + b"\0" + secret,
        user + b"\0" + secret,
        secret,
    )


def refuse_masked(secret: str, *, field: str) -> None:
    """Refuse the asterisks that Prefect puts in place of a secret.

    Args:
        secret: The candidate; an empty one is not refused.
        field: What to call it in the error.

    Raises:
        InvalidInput: It is asterisks only.

    Example:
        >>> refuse_masked("**********", field="api_key")
        Traceback (most recent call last):
        ...
        prefect_tracktor.errors.InvalidInput: api_key is asterisks only: Prefect sends these ...
    """
    if secret and not secret.strip("*"):
        raise InvalidInput(
            f"{field} is asterisks only: Prefect sends these in place of a secret when a block"
            " object is passed through run_deployment. Leave the parameter out, so that the"
            " deployment's own block is used, or pass the saved block by reference:"
            ' {"$ref": {"block_document_id": "..."}}'
        )
