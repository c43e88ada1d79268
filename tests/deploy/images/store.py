"""A bucket server (moto's) with one empty bucket; the real one's arguments mean nothing to it."""

import http.client
import signal

from moto.moto_server.threaded_moto_server import ThreadedMotoServer

PORT = 8333

server = ThreadedMotoServer("0.0.0.0", PORT)  # noqa: S104  # inside its container
server.start()
connection = http.client.HTTPConnection("127.0.0.1", PORT)
connection.request("PUT", "/lts", headers={"Host": "127.0.0.1"})
assert connection.getresponse().status == 200
signal.signal(signal.SIGTERM, lambda *_: server.stop())
signal.pause()
