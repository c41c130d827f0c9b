"""Tests of the wire transport's sockets, where no server can bring the case about at will."""

from __future__ import annotations

import select
import socket
from types import SimpleNamespace
from typing import Any

from rocbench.load.requestfactory import Request
from rocbench.load.sockets import Sockets
from rocbench.load.spec import Closed


def test_an_event_of_a_closed_socket_is_not_the_end_of_connecting() -> None:
    """Within one poll a socket may close and its number be given to the next, before its last event is read."""
    over: list[Any] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        load = SimpleNamespace(shape=Closed(1), request_timeout_s=30.0)
        spec: Any = SimpleNamespace(load=load, addresses=((socket.AF_INET, server.getsockname()),))
        work: Any = SimpleNamespace(spec=spec, opened=0, talking=0, reads=0, sent=lambda *_, **__: None)
        sockets = Sockets(work, lambda *ended: over.append(ended))
        try:
            sockets.connect(Request(0, 0, 0, 8, 8, 0, 8, "first", b"request"), 0)
            (fd,) = sockets.table
            sockets.receive([(fd, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLHUP)])
            (connection,) = sockets.connections()
            assert connection.connecting
            assert not over

            sockets.receive(sockets.poller.poll(10))
            assert not connection.connecting
            peer, _ = server.accept()
            with peer:
                assert peer.recv(100) == b"request"
        finally:
            for connection in sockets.connections():
                sockets.close(connection)
            sockets.poller.close()
