"""The blocks of channels, saved and loaded: their secrets stay secret."""

import pytest

from prefect_tracktor import Mailer, OAuth2

pytestmark = pytest.mark.usefixtures("prefect_api")


def test_a_mailer_keeps_its_access_to_tokens_secret() -> None:
    oauth2 = OAuth2.model_validate(
        {"token_endpoint": "https://a.example/token", "client_id": "a", "client_secret": "s3cret-s"}
    )
    mailer = Mailer(
        host="smtp.example.com", sender="Shop <a@example.com>", username="a", oauth2=oauth2
    )
    mailer.save("with-oauth2", overwrite=True)
    loaded = Mailer.model_validate(Mailer.load("with-oauth2"))
    assert loaded.oauth2 == oauth2
    assert "s3cret-s" not in f"{loaded!r} {loaded.server!r} {loaded.model_dump()}"
    assert "oauth2.client_secret" in Mailer.model_json_schema()["secret_fields"]
