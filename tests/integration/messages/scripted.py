"""SMTP server with scripted replies."""

import socketserver
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from prefect_tracktor import Mailer
from tests.support.mailers import mailer_at

HANG_UP = "hang up"
SILENCE = "silence"
DRIP = "drip"
FLOOD = "flood"

Reply = str | Callable[[], str]


class ScriptedServer(socketserver.ThreadingTCPServer):
    """Sends the script's replies to each command in turn, and then the default replies.

    A function in the script makes the replies from then on. The commands are those of SMTP,
    `CONNECT`, and `.` for the end of the content.
    """

    default_replies = {  # noqa: RUF012  # read only
        "CONNECT": "220 scripted.example",
        "EHLO": "250-scripted.example\r\n250 AUTH PLAIN",
        "DATA": "354 go on",
        "QUIT": "221 bye",
        "AUTH": "235 welcome",
    }
    block_on_close = True

    def __init__(self, script: Mapping[str, Sequence[Reply]]) -> None:
        super().__init__(("127.0.0.1", 0), _Session)
        self.script = {command: list(replies) for command, replies in script.items()}
        self.commands: dict[str, int] = defaultdict(int)
        self.contents: list[bytes] = []
        self.closing = threading.Event()

    def reply_to(self, command: str) -> str:
        self.commands[command] += 1
        replies = self.script.get(command)
        if not replies:
            return self.default_replies.get(command, "250 fine")
        reply = replies[0] if callable(replies[0]) else replies.pop(0)
        return reply() if callable(reply) else reply

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def mailer(self, **options: Any) -> Mailer:
        return mailer_at(self.port, **options)


class _Session(socketserver.StreamRequestHandler):
    server: ScriptedServer

    def handle(self) -> None:
        is_open = self.reply("CONNECT")
        while is_open and (line := self.rfile.readline()):
            command = line.split()[0].decode().upper()
            is_open = self.reply(command) and command != "QUIT"

    def reply(self, command: str) -> bool:
        reply = self.server.reply_to(command)
        if reply == SILENCE:
            self.server.closing.wait(timeout=2)
        if reply in (DRIP, FLOOD):
            self.send_endlessly(reply)
        if reply in (SILENCE, HANG_UP, DRIP, FLOOD):
            return False
        self.wfile.write(f"{reply}\r\n".encode())
        if reply.endswith(f", {SILENCE}"):
            self.server.closing.wait(timeout=10)
            return False
        return self.receive_content() if reply.startswith("354") else True

    def send_endlessly(self, reply: str) -> None:
        """Send byte by byte, or as fast as possible, until the client or the test ends."""
        deadline = time.monotonic() + 20
        with suppress(OSError):
            while not self.server.closing.is_set() and time.monotonic() < deadline:
                self.wfile.write(b"2" if reply == DRIP else b"250-more\r\n" * 1000)
                self.server.closing.wait(timeout=0.05 if reply == DRIP else 0)

    def receive_content(self) -> bool:
        lines: list[bytes] = []
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            lines.append(line)
        self.server.contents.append(b"".join(lines))
        return self.reply(".")


@contextmanager
def scripted(**script: Sequence[Reply]) -> Iterator[ScriptedServer]:
    """Run a server; `END` stands for the end of the content."""
    if "END" in script:
        script["."] = script.pop("END")
    with ScriptedServer(script) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()
