"""An SMTP server that answers as a script says."""

import socketserver
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from prefect_tracktor.messages.smtp import Security, SmtpServer

HANG_UP = "hang up"
SILENCE = "silence"
DRIP = "drip"
FLOOD = "flood"

Response = str | Callable[[], str]


class ScriptedServer(socketserver.ThreadingTCPServer):
    """Says what the script holds for a command, one after another, and else what is usual.

    An answer is a text, or a function that gives one each time from then on. The commands are those
    of SMTP, `CONNECT`, and `.` for the end of the content.
    """

    usual = {  # noqa: RUF012  # read only
        "CONNECT": "220 scripted.example",
        "EHLO": "250-scripted.example\r\n250 AUTH PLAIN",
        "DATA": "354 go on",
        "QUIT": "221 bye",
        "AUTH": "235 welcome",
    }
    block_on_close = True

    def __init__(self, script: Mapping[str, Sequence[Response]]) -> None:
        super().__init__(("127.0.0.1", 0), _Conversation)
        self.script = {command: list(answers) for command, answers in script.items()}
        self.heard: dict[str, int] = defaultdict(int)
        self.contents: list[bytes] = []
        self.closing = threading.Event()

    def reply_to(self, command: str) -> str:
        self.heard[command] += 1
        left = self.script.get(command)
        if not left:
            return self.usual.get(command, "250 fine")
        answer = left[0] if callable(left[0]) else left.pop(0)
        return answer() if callable(answer) else answer

    @property
    def address(self) -> SmtpServer:
        host, port = self.server_address[:2]
        return SmtpServer(str(host), port, security=Security.NONE)


class _Conversation(socketserver.StreamRequestHandler):
    server: ScriptedServer

    def handle(self) -> None:
        goes_on = self.answer("CONNECT")
        while goes_on and (line := self.rfile.readline()):
            command = line.split()[0].decode().upper()
            goes_on = self.answer(command) and command != "QUIT"

    def answer(self, command: str) -> bool:
        reply = self.server.reply_to(command)
        if reply == SILENCE:
            self.server.closing.wait(timeout=2)
        if reply in (DRIP, FLOOD):
            self.go_on_without_end(reply)
        if reply in (SILENCE, HANG_UP, DRIP, FLOOD):
            return False
        self.wfile.write(f"{reply}\r\n".encode())
        if reply.endswith(f", {SILENCE}"):
            self.server.closing.wait(timeout=10)
            return False
        return self.take_content() if reply.startswith("354") else True

    def go_on_without_end(self, reply: str) -> None:
        """Byte by byte, or as fast as it goes, until the other side or the test has enough."""
        deadline = time.monotonic() + 20
        with suppress(OSError):
            while not self.server.closing.is_set() and time.monotonic() < deadline:
                self.wfile.write(b"2" if reply == DRIP else b"250-more\r\n" * 1000)
                self.server.closing.wait(timeout=0.05 if reply == DRIP else 0)

    def take_content(self) -> bool:
        lines: list[bytes] = []
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            lines.append(line)
        self.server.contents.append(b"".join(lines))
        return self.answer(".")


@contextmanager
def scripted(**script: Sequence[Response]) -> Iterator[ScriptedServer]:
    """`END` stands for the end of the content."""
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
