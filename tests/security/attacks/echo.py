"""Attack: be believed by repeating what the caller says. ``echo.py HOST PORT``; prints the port."""

import socket
import sys
import threading


def repeat(connection):
    while data := connection.recv(4096):
        connection.sendall(data)


server = socket.create_server((sys.argv[1], int(sys.argv[2])))
print(server.getsockname()[1], flush=True)
while True:
    threading.Thread(target=repeat, args=(server.accept()[0],), daemon=True).start()
