"""aiosmtpd, with the standard library's client in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import smtplib
from collections.abc import AsyncIterator, Callable
from email.message import EmailMessage
from typing import Any

import pytest

from conftest import LoopFactory
from support import certificates, looped, others_end, refused_port

smtp = pytest.importorskip("aiosmtpd.smtp", reason="aiosmtpd is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:aiosmtpd")


class Handler:
    def __init__(self) -> None:
        self.mails: list[tuple[str, list[str], bytes]] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        await asyncio.sleep(0)
        self.mails.append((envelope.mail_from, envelope.rcpt_tos, envelope.content))
        return "250 taken"


@contextlib.asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[tuple[Handler, int]]:
    loop = asyncio.get_running_loop()
    handler = Handler()
    made = []

    def factory() -> Any:
        made.append(smtp.SMTP(handler, loop=loop, hostname="here", **options))
        return made[-1]

    server = await loop.create_server(factory, "127.0.0.1", 0)
    try:
        yield handler, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()
        await others_end()
        await loop.shutdown_default_executor()


async def in_thread(function: Callable[..., Any], *args: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, function, *args)


def mail(number: int, size: int = 10) -> EmailMessage:
    message = EmailMessage()
    message["From"] = "a@example.org"
    message["To"] = "b@example.org"
    message["Subject"] = str(number)
    message.set_content("line\n" * size)
    return message


def send(port: int, count: int, size: int, tls: bool) -> None:
    with smtplib.SMTP("localhost", port, timeout=30) as client:
        if tls:
            client.starttls(context=certificates().client_context())
        for i in range(count):
            client.send_message(mail(i, size))


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "starttls"])
@looped
async def test_mails(tls: bool) -> None:
    """STARTTLS makes the standard SSLProtocol over our transport."""
    options = {"tls_context": certificates().server_context()} if tls else {}
    async with serving(require_starttls=tls, **options) as (handler, port):
        await asyncio.gather(*(in_thread(send, port, 5, 100, tls) for _ in range(4)))
        assert len(handler.mails) == 20
        await in_thread(send, port, 1, 200_000, tls)
        sender, receivers, content = handler.mails[-1]
        assert (sender, receivers) == ("a@example.org", ["b@example.org"])
        assert content.count(b"line\r\n") == 200_000


@looped
async def test_client_that_leaves() -> None:
    def leave(port: int) -> None:
        client = smtplib.SMTP("localhost", port, timeout=30)
        client.docmd("EHLO", "x")
        client.docmd("MAIL", "FROM:<a@example.org>")
        client.sock.close()  # type: ignore[union-attr]
        client.close()

    async with serving() as (handler, port):
        await asyncio.gather(*(in_thread(leave, port) for _ in range(5)))
        await in_thread(send, port, 1, 10, False)
        assert len(handler.mails) == 1


def test_controller(loop_factory: LoopFactory) -> None:
    """aiosmtpd's own way: a loop in a thread, which it closes."""
    controller_module = importlib.import_module("aiosmtpd.controller")
    handler = Handler()
    loop = loop_factory()
    controller = controller_module.Controller(
        handler, loop=loop, hostname="127.0.0.1", port=refused_port()
    )
    controller.start()
    try:
        with smtplib.SMTP("127.0.0.1", controller.port) as client:
            client.send_message(mail(1))
    finally:
        controller.stop()
    assert len(handler.mails) == 1
    assert loop.is_closed()
