"""A login in another process, with a saved mailer whose refresh token is replaced."""

from multiprocessing import get_context
from multiprocessing.synchronize import Barrier

from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_tracktor import Mailer

processes = get_context("forkserver")


def log_in_together(api_url: str, all_ready: Barrier) -> None:
    """Load the mailer `rotating`, and log in when all processes have loaded it."""
    with temporary_settings({PREFECT_API_URL: api_url}):
        mailer = Mailer.model_validate(Mailer.load("rotating"))
        all_ready.wait(120)
        mailer.verify()
