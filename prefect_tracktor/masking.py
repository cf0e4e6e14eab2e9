"""Personal data made unreadable, for logs, artifacts and error messages."""

import re

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
