"""The handbook's nginx in front of the receiver: slow senders do not block others."""

import re
import shutil
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import Popen

import httpx
import pytest

from prefect_tracktor import TracktorCredentials
from prefect_tracktor.webhooks import WebhookQueue
from tests.support.programs import PROJECT, free_port
from tests.support.webhooks import TOKEN, Listening, eventually
from tests.system.handbook.pages import blocks_of

NGINX = shutil.which("nginx")
# the start of a request, and how many senders send it
SLOW_SENDERS = {
    "POST /guess HTTP/1.1\r\nHost: a\r\nX-Slow: ": 200,
    "POST /guess HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n{": 60,
}

pytestmark = [
    pytest.mark.skipif(NGINX is None, reason="there is no nginx"),
    pytest.mark.usefixtures("no_prefect"),
]


@pytest.fixture
def proxied(listening: Listening, certificate: Path, tmp_path: Path) -> Iterator[int]:
    """Run a receiver behind nginx, configured as in the handbook; return nginx's port."""
    with listening() as address, nginx(address, certificate, tmp_path) as port:
        yield port


@contextmanager
def nginx(receiver: str, certificate: Path, folder: Path) -> Iterator[int]:
    page = PROJECT / "docs/how-to/react-to-events.md"
    [example] = [block.code for block in blocks_of(page) if block.title == "tracktor.conf"]
    port = free_port()
    for pattern, here in {
        r"listen 443": f"listen 127.0.0.1:{port}",
        r"/etc/letsencrypt/\S+\.pem": str(certificate),
        r"/var/log/nginx/tracktor\.log": str(folder / "tracktor.log"),
        r"http://127\.0\.0\.1:8484": receiver,
    }.items():
        example, count = re.subn(pattern, here, example)
        assert count, pattern
    (folder / "tracktor.conf").write_text(example)
    main = folder / "nginx.conf"
    main.write_text(
        f"user root; daemon off; pid {folder}/nginx.pid; error_log {folder}/main.log;"
        " events { worker_connections 1024; }"
        f" http {{ client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;"
        f" include {folder}/tracktor.conf; }}"
    )
    assert NGINX
    with Popen([NGINX, "-p", str(folder), "-c", str(main)]) as process:
        try:
            for attempt in eventually():
                with attempt:
                    assert process.poll() is None, (folder / "main.log").read_text()
                    assert (folder / "nginx.pid").exists()
            yield port
        finally:
            process.terminate()


def deliver(port: int, certificate: Path, order_id: int) -> int:
    """Post a delivery as Tracktor does, from another address."""
    transport = httpx.HTTPTransport(
        verify=ssl.create_default_context(cafile=certificate), local_address="127.0.0.2"
    )
    with httpx.Client(transport=transport, timeout=30) as client:
        url = f"https://127.0.0.1:{port}/{TOKEN}"
        return client.post(url, json={"order_id": order_id}).status_code


def slow_sender(port: int, certificate: Path, request: str) -> socket.socket:
    """Send only the beginning of a request."""
    context = ssl.create_default_context(cafile=certificate)
    plain = socket.create_connection(("127.0.0.1", port), timeout=30)
    sender = context.wrap_socket(plain, server_hostname="127.0.0.1")
    sender.sendall(request.encode())
    return sender


def is_disconnected(sender: socket.socket) -> bool:
    """Whether nginx closes the connection in the end."""
    try:
        while sender.recv(4096):
            pass
    except TimeoutError:
        return False
    return True


def test_nginx_disconnects_slow_senders_and_lets_deliveries_through(
    proxied: int,
    certificate: Path,
    queue: WebhookQueue,
    credentials: TracktorCredentials,
) -> None:
    with ExitStack() as connected:
        senders = [
            (request, connected.enter_context(slow_sender(proxied, certificate, request)))
            for request, count in SLOW_SENDERS.items()
            for _ in range(count)
        ]
        assert deliver(proxied, certificate, 1) == 200
        assert queue.waiting(credentials.account) == (1, 0)
        assert not {request for request, sender in senders if not is_disconnected(sender)}


def test_nginx_logs_no_token_and_forwards_only_posts(
    proxied: int, certificate: Path, tmp_path: Path
) -> None:
    context = ssl.create_default_context(cafile=certificate)
    with httpx.Client(verify=context) as client:
        assert client.get(f"https://127.0.0.1:{proxied}/health").status_code == 403
        url = f"https://127.0.0.1:{proxied}/{TOKEN}"
        assert client.post(url, content=b"x" * 2_000_000).status_code == 413
        statuses = [client.post(url, json={"order_id": n}).status_code for n in range(1, 30)]
    assert set(statuses) == {200}
    for log in tmp_path.glob("*.log"):
        assert TOKEN not in log.read_text()
