"""The block `EmailTemplate`: brand and words of the messages to customers."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from prefect_tracktor.block import TracktorBlock, handbook, logo
from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.forms import FORM
from prefect_tracktor.messages.values import clean, one_line
from prefect_tracktor.messages.words import (
    KINDS,
    LANGUAGES,
    About,
    missing_words,
    no_words,
    shipped,
)
from prefect_tracktor.models import Fulfillment, Order
from prefect_tracktor.times import ZoneName
from prefect_tracktor.validation import checked_address

# names that sentences and whole templates may use
CONTEXT = (
    "order", "fulfillments", "is_part", "shop", "tracking_page", "language", "your_order",
    "this_order", "several", "status",
)  # fmt: skip
_LONGEST_SUBJECT = 200
_COLOR = re.compile(r"#[0-9a-fA-F]{6}")
_LANGUAGE = re.compile(r"[a-z]{2,3}")
_FORMS = {
    "months": (re.compile(r"\S+( \S+){11}"), "twelve words with single blanks between them"),
    "separators": (
        re.compile(r".."),
        "two characters: the thousands separator and the decimal separator",
    ),
}


# for models that are part of the block
_PART = FORM | ConfigDict(hide_input_in_errors=True)


def _checked_language(value: str) -> str:
    if not _LANGUAGE.fullmatch(value.strip().lower()):
        raise InvalidInput(f"language must be the code of a language, such as {LANGUAGES[0]}")
    return value.strip().lower()


_Language = Annotated[str, AfterValidator(_checked_language)]


@dataclass(frozen=True, slots=True)
class ShopInfo:
    """The shop, for templates; `email` is the address for replies."""

    name: str
    url: str = ""
    email: str = ""


@dataclass(frozen=True, slots=True)
class RenderedEmail:
    """The subject, text and HTML of a message, without control characters."""

    subject: str
    text: str
    html: str

    def __post_init__(self) -> None:
        subject = one_line(self.subject)
        if len(subject) > _LONGEST_SUBJECT:
            subject = f"{subject[: _LONGEST_SUBJECT - 1].rstrip()}…"
        cleaned = {"subject": subject, "text": clean(self.text), "html": clean(self.html)}
        for part, words in cleaned.items():
            object.__setattr__(self, part, words)


class Brand(BaseModel):
    """The look of messages: name, logo, color and footer, all optional.

    Attributes:
        shop_name: Shown above and below each message. Empty: the sender's name.
        logo: The https address of a PNG or JPEG. Empty: the shop's name, and messages load no
            picture.
        logo_width: The width of the logo in pixels, from 16 to 552.
        color: Of the button and the progress bar, written as #rrggbb. The text on it turns black or
            white, whichever reads better.
        contact: Shown in the footer; the reply button writes to it. Empty: none in the footer, and
            the button writes to the address for replies.
        address: The postal address, shown in the footer line by line.
        imprint: Legally required information, such as the company's register number, line by line.
            A line that is an https address becomes a link.
        currency: The currency of order totals, as a code or a sign. Empty: totals are left out.
        time_zone: The time zone of times in messages, by its IANA name.

    Raises:
        pydantic.ValidationError: A value is invalid; the message names the field and says how to
            write it.

    Example:
        >>> Brand(shop_name="Ada's Mugs", color="#0b6e4f").color
        '#0b6e4f'
    """

    model_config = _PART

    shop_name: str = Field(default="", max_length=100, examples=["Your Shop"])
    logo: str = Field(default="", examples=["https:// ... /logo.png"])
    logo_width: int = Field(default=140, ge=16, le=552, title="Width of the logo")
    color: str = Field(default="#1f2430", examples=["#0b6e4f"])
    contact: str = Field(
        default="", title="Email address for questions", examples=["help@your-shop.example"]
    )
    address: str = Field(default="", max_length=500, title="Postal address")
    imprint: str = Field(default="", max_length=2000)
    currency: str = Field(default="", max_length=5, examples=["EUR", "$"])
    time_zone: ZoneName = Field(default="UTC", examples=["Europe/Berlin"])

    @field_validator("logo")
    @classmethod
    def _logo_is_safe(cls, value: str) -> str:
        return checked_address(value, field="logo") if value else ""

    @field_validator("color")
    @classmethod
    def _color_is_valid(cls, value: str) -> str:
        if not _COLOR.fullmatch(value.strip()):
            raise InvalidInput("color must be # and six hexadecimal digits, such as #0b6e4f")
        return value.strip().lower()

    @field_validator("contact")
    @classmethod
    def _contact_is_valid(cls, value: str) -> str:
        from prefect_tracktor.messages.email import validated_address

        return validated_address(value, field="contact") if value else ""


class Words(BaseModel):
    """A shop's own words in a language. Empty fields keep the default words.

    Sentences are plain text, as Jinja templates; a blank line begins a paragraph. They may use
    what `EmailTemplate` names, above all `your_order`, which begins a sentence: *Your order #1001*,
    or *Part of your order #1001* where only some parcels are meant. `this_order` leaves out the
    number. `{{ "" }}` leaves a sentence out.

    Attributes:
        language: The code of the language, such as `de`. One that is not shipped needs `subject`,
            `opening`, `closing`, `why` and all `labels`.
        about: The kind of message; any: all messages.
        subject: Such as: `{{ your_order }} is on its way`. Empty: the default, as everywhere here.
        headline: The heading. Empty: the subject.
        opening: The first sentences, above the parcels.
        advice: Advice to the customer, below the parcels.
        closing: The last sentence.
        button: The words on the button that shows the order.
        why: The reason for the message, in the footer.
        labels: The small words by name, such as track or regards; the handbook lists them.

    Raises:
        pydantic.ValidationError: A template is invalid, or a label does not exist.

    Example:
        >>> Words(language="de", about="delivered", closing="Viel Freude damit!").closing
        'Viel Freude damit!'
    """

    model_config = _PART

    language: _Language = Field(default="en", examples=list(LANGUAGES))
    about: Literal["any", About] = Field(default="any", title="For which message")
    subject: str = ""
    headline: str = ""
    opening: str = ""
    advice: str = ""
    closing: str = ""
    button: str = ""
    why: str = ""
    labels: dict[str, str] = Field(default={}, title="Small words")

    @field_validator("subject", "headline", "opening", "advice", "closing", "button", "why")
    @classmethod
    def _sentence_is_valid(cls, source: str, info: ValidationInfo) -> str:
        _check(str(info.field_name), source)
        return source

    @field_validator("labels")
    @classmethod
    def _labels_are_known(cls, labels: dict[str, str]) -> dict[str, str]:
        known = shipped("en")["labels"]
        if unknown := sorted(labels.keys() - known.keys()):
            raise InvalidInput(
                f"labels: there is no {', '.join(unknown)}; there are {', '.join(known)}"
            )
        for name, (form, description) in _FORMS.items():
            if not form.fullmatch(labels.get(name, known[name])):
                raise InvalidInput(f"labels.{name} must be {description}")
        return labels


class EmailTemplate(TracktorBlock):
    """The look and the words of the messages to customers.

    The words are shipped in English, German, French and Spanish; write your own sentence by
    sentence in `words`, or a whole part of the message in `subject`, `text` or `html`. All are
    Jinja templates, and may use `order`, `fulfillments` (the parcels that the message is about),
    `is_part` (whether the order has other parcels, or is not sent in full), `several`, `status` (in
    words), `your_order`, `this_order`, `language`, `shop` (`name`, `url`, `email`) and
    `tracking_page` (an address, or empty). An unknown value is empty. The filter `web_address`
    makes any address safe to link to, and `one_line` removes line breaks from a text. In HTML all
    values are escaped. A template that loops forever, or writes more than any message needs, fails.

    Attributes:
        brand: Name, logo, color and footer.
        language: The shop's language: en, de, fr, es, or a language in your own words. Used if the
            customer's language is unknown or has no words.
        customers_language: Write in the customer's language, if the order names it and there are
            words in it.
        words: The shop's own words: an entry for each language and message that you want to change.
        subject: A Jinja template in place of all subjects; line breaks become blanks. Empty: the
            words.
        text: A Jinja template in place of the whole plain text part. Empty: the words.
        html: A Jinja template in place of the whole HTML part; all values are escaped. Empty: the
            words.

    Raises:
        pydantic.ValidationError: A template has a syntax error or an unknown name; the message says
            which field, line and name.

    Example:
        Set your brand, and a sentence of your own:
        ```python
        from prefect_tracktor import EmailTemplate, Brand, Words

        template = EmailTemplate.load("BLOCK_NAME")
        template.brand = Brand(shop_name="Your Shop", color="#0b6e4f")
        template.words = [Words(about="delivered", closing="Enjoy it!")]
        template.save("BLOCK_NAME", overwrite=True)
        ```
    """

    _block_type_name = "Tracktor Email Template"
    _block_type_slug = "tracktor-email-template"
    _logo_url = logo("email-edit")
    _description = "The look and the words of the messages to customers, in each language."
    _documentation_url = handbook("how-to/messages.md")

    model_config = ConfigDict(validate_assignment=True)

    brand: Brand = Brand()
    language: _Language = Field(default="en", title="The shop's language", examples=list(LANGUAGES))
    customers_language: bool = Field(default=True, title="Write in the customer's language")
    words: list[Words] = Field(default=[], title="Your own words")
    subject: str = Field(default="", title="Subject for all languages")
    text: str = Field(default="", title="Plain text for all languages")
    html: str = Field(default="", title="HTML for all languages")

    @field_validator("words")
    @classmethod
    def _words_are_complete(cls, words: list[Words]) -> list[Words]:
        for entry in words:
            if missing := missing_words(entry.about, entry.language, words):
                raise InvalidInput(
                    f"words: {entry.language} is not one of the shipped languages"
                    f" ({', '.join(LANGUAGES)}), and lacks {', '.join(missing)}: add them"
                )
        return words

    @field_validator("subject", "text", "html")
    @classmethod
    def _template_is_valid(cls, source: str, info: ValidationInfo) -> str:
        _check(str(info.field_name), source, escape=info.field_name == "html")
        return source

    @model_validator(mode="after")
    def _language_has_words(self) -> Self:
        if all(missing_words(about, self.language, self.words) for about in KINDS):
            raise no_words(self.language)
        return self

    def render(
        self,
        order: Order,
        fulfillments: Sequence[Fulfillment],
        *,
        shop: ShopInfo,
        about: About = "status",
        language: str | None = None,
    ) -> RenderedEmail:
        """Render the message for an order.

        Args:
            order: The order.
            fulfillments: The parcels that the message is about.
            shop: The shop.
            about: The kind of message; by default the status that the parcels are in.
            language: The language; by default the customer's or the shop's.

        Returns:
            The subject, text and HTML.

        Raises:
            TemplateError: A template fails for this order, or its result is empty or too long; the
                message names field, line and order, never a customer.
            InvalidInput: There are no words in the language.

        Example:
            >>> order = Order(order_id=1, order_name="#1001", customer_first_name="Ada")
            >>> parcels = [Fulfillment(fulfillment_id=7)]
            >>> shop = ShopInfo("Your Shop")
            >>> EmailTemplate().render(order, parcels, shop=shop, about="expired").subject
            'Your order #1001: the tracking has stopped'
        """
        from prefect_tracktor.messages.rendering import render_email

        return render_email(self, order, fulfillments, shop, about=about, language=language)

    def preview(
        self,
        order: Order | None = None,
        fulfillments: Sequence[Fulfillment] | None = None,
        *,
        shop: ShopInfo | None = None,
        about: About = "status",
        language: str | None = None,
    ) -> RenderedEmail:
        """Render the message without personal data, to show it to others.

        Args:
            order: The order, whose personal data is masked; by default a made-up one.
            fulfillments: The parcels that the message is about; by default all.
            shop: The shop; by default a made-up one.
            about: The kind of message; by default the status that the parcels are in.
            language: The language; by default the customer's or the shop's.

        Returns:
            The subject, text and HTML.

        Raises:
            TemplateError: As for `render`.
            InvalidInput: As for `render`.

        Example:
            >>> order = Order(order_id=1, order_name="#1001", customer_first_name="Ada")
            >>> EmailTemplate().preview(order).text.splitlines()[2]
            'Hello A***,'
        """
        from prefect_tracktor.messages.preview import preview

        return preview(self, order, fulfillments, shop, about=about, language=language)

    def verify(self) -> None:
        """Render each message for two made-up orders, one with all details and one with few.

        Raises:
            TemplateError: A template fails; the message names field and line.

        Example:
            >>> EmailTemplate(subject="{{ order.order_name.upper() }}").verify()
            Traceback (most recent call last):
            ...
            prefect_tracktor.errors.TemplateError: the EmailTemplate's subject fails
            ...
        """
        from prefect_tracktor.messages.preview import verify

        verify(self)


def _check(field: str, source: str, *, escape: bool = False) -> None:
    from prefect_tracktor.messages.limited_jinja import check_template

    check_template(field, source, CONTEXT, escape=escape)
