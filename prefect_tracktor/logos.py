"""The pictures of the blocks in Prefect's UI, which takes nothing but a web address for one."""

from pydantic import HttpUrl

# a blue that can be seen on white and on black
_COLOUR = "%233b82f6"


def logo(icon: str) -> HttpUrl:
    """The address of an icon; it is the browser that shows Prefect's UI that asks for it.

    Args:
        icon: Its name among the Material Design Icons, which the public service Iconify serves.

    Returns:
        The address of an SVG picture.

    Example:
        >>> str(logo("truck-delivery"))
        'https://api.iconify.design/mdi/truck-delivery.svg?color=%233b82f6&height=64'
    """
    return HttpUrl(f"https://api.iconify.design/mdi/{icon}.svg?color={_COLOUR}&height=64")
