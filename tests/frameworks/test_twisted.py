"""twisted's asyncio reactor, in a process of its own: a reactor is for good."""

from __future__ import annotations

import importlib.util

import pytest

from conftest import Script

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("twisted") is None, reason="twisted is not installed"
)

HEAD = """
import warnings
warnings.simplefilter("default")  # twisted's own are none of ours
from twisted.internet import asyncioreactor
loop = new_event_loop()
asyncioreactor.install(loop)
from twisted.internet import defer, endpoints, protocol, reactor, task

def main(function):
    reactor.callLater(0, start, function)

def start(function):
    deferred = defer.ensureDeferred(function())
    deferred.addErrback(failed)
    deferred.addBoth(lambda _: reactor.stop())

def failed(failure):
    failure.printTraceback()
    failures.append(failure)

failures = []
def run():
    reactor.run()
    assert not failures and not loop.is_running()
    loop.close()
    print("ended", flush=True)
"""


def test_streams(script: Script) -> None:
    code = """
class Echo(protocol.Protocol):
    def dataReceived(self, data):
        self.transport.write(data)

class Client(protocol.Protocol):
    def __init__(self, size):
        self.size, self.done = size, defer.Deferred()
    def connectionMade(self):
        self.transport.write(bytes(self.size))
    def dataReceived(self, data):
        self.size -= len(data)
        if self.size == 0:
            self.transport.loseConnection()
    def connectionLost(self, reason):
        self.done.callback(self.size)

async def test():
    factory = protocol.Factory.forProtocol(Echo)
    server = endpoints.TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
    port = await server.listen(factory)
    where = endpoints.TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
    clients = [Client(size) for size in (1, 1000, 1 << 22) for _ in range(5)]
    for client in clients:
        await endpoints.connectProtocol(where, client)
    assert [await client.done for client in clients] == [0] * len(clients)
    await port.stopListening()

main(test)
run()
"""
    assert script(HEAD + code).stdout == "ended\n"


def test_web(script: Script) -> None:
    code = """
from twisted.web import client, resource, server

class Page(resource.Resource):
    isLeaf = True
    def render_POST(self, request):
        reactor.callLater(0.001, self.answer, request)
        return server.NOT_DONE_YET
    def answer(self, request):
        request.write(request.content.read())
        request.finish()

async def test():
    from io import BytesIO
    port = reactor.listenTCP(0, server.Site(Page()), interface="127.0.0.1")
    url = b"http://127.0.0.1:%d/" % port.getHost().port
    pool = client.HTTPConnectionPool(reactor)
    agent = client.Agent(reactor, pool=pool)
    for size in (0, 10, 1 << 20):
        body = client.FileBodyProducer(BytesIO(bytes(size)))
        answer = await agent.request(b"POST", url, None, body)
        assert await client.readBody(answer) == bytes(size)
    await pool.closeCachedConnections()
    await port.stopListening()

main(test)
run()
"""
    assert script(HEAD + code).stdout == "ended\n"


def test_asyncio_from_twisted(script: Script) -> None:
    code = """
import asyncio

async def inner():
    await asyncio.sleep(0.01)
    return type(asyncio.get_running_loop()).__module__

async def test():
    found = await defer.Deferred.fromFuture(loop.create_task(inner()))
    assert found == type(loop).__module__, found
    waited = task.deferLater(reactor, 0.01, lambda: 1).asFuture(loop)
    assert await defer.Deferred.fromFuture(waited) == 1
    times = []
    looping = task.LoopingCall(times.append, 1)
    looping.start(0.001)
    while len(times) < 5:
        await task.deferLater(reactor, 0, lambda: None)
    looping.stop()

main(test)
run()
"""
    assert script(HEAD + code).stdout == "ended\n"


def test_processes_and_files(script: Script) -> None:
    """Its processes use SIGCHLD; a regular file cannot be watched, and it must know."""
    code = """
import sys
from twisted.internet import threads, utils

class Reader:
    def __init__(self, file):
        self.fileno, self.ready = file.fileno, defer.Deferred()
    def logPrefix(self):
        return "reader"
    def doRead(self):
        if not self.ready.called:
            self.ready.callback(None)
    def connectionLost(self, reason):
        pass

async def test():
    found = await utils.getProcessOutput(sys.executable, ["-c", "print('x' * 100000)"])
    assert found == b"x" * 100000 + b"\\n"
    codes = [utils.getProcessValue("/bin/sh", ["-c", f"exit {i}"]) for i in range(8)]
    assert [await code for code in codes] == list(range(8))
    assert await threads.deferToThread(lambda: 5) == 5
    with open(sys.executable) as file:
        reader = Reader(file)
        reactor.addReader(reader)
        await reader.ready
        reactor.removeReader(reader)

main(test)
run()
"""
    assert script(HEAD + code).stdout == "ended\n"
