"""Attack: reach TensorFlow's gRPC server. ``run_graph.py PORT ADDRESS...`` prints ``open`` or ``shut`` for each.

A server that answers HTTP/2 here runs anybody's graph as its user (``tf.compat.v1.Session("grpc://...")``).
"""

import socket
import sys

BEGIN = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
found = []
for address in sys.argv[2:]:
    answers = []
    for _ in range(8):  # several, because the kernel may spread connections over the sockets of a port
        try:
            with socket.create_connection((address, int(sys.argv[1])), timeout=5) as connection:
                connection.sendall(BEGIN)
                answers.append(bool(connection.recv(9)))
        except OSError:
            answers.append(False)
    found.append("open" if all(answers) else "shut" if not any(answers) else "sometimes")
print(*found, flush=True)
