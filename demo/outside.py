"""The world outside the demo's cluster, and what a pod in it asks.

  outside.py serve DNS_PORT WEB_PORT   a DNS in which every name is this machine, and the web server that is then there; until stdin ends
  outside.py get PROXY_PORT URL        what a client in the pod gets by the proxy; exit status 1 where it is refused
"""

import http.client
import http.server
import socket
import sys
import threading
from urllib.parse import urlsplit

ADDRESS = bytes([127, 0, 0, 1])
TYPE_A = bytes([0, 1])


def answer(question: bytes) -> bytes:
    """One address for a question of type A, none for others."""
    end = question.index(0, 12) + 5
    name, kind = question[12:end], question[end - 4 : end - 2]
    count = 1 if kind == TYPE_A else 0
    record = b"\xc0\x0c" + TYPE_A + b"\x00\x01" + bytes(4) + b"\x00\x04" + ADDRESS
    return question[:2] + b"\x81\x80\x00\x01" + bytes([0, count]) + bytes(4) + name + record * count


def serve_names(port: int) -> None:
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", port))
    while True:
        question, asker = server.recvfrom(512)
        try:
            server.sendto(answer(question), asker)
        except ValueError:
            pass  # No question: a client that waits for an answer gets none.


class Web(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = f"{self.headers['Host']} says: a quote for {self.path}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def serve(dns_port: int, web_port: int) -> None:
    threading.Thread(target=serve_names, args=(dns_port,), daemon=True).start()
    web = http.server.ThreadingHTTPServer(("127.0.0.1", web_port), Web)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    sys.stdin.read()


def get(proxy_port: int, url: str) -> int:
    asked = urlsplit(url)
    proxy = http.client.HTTPConnection("127.0.0.1", proxy_port, timeout=20)
    if asked.scheme == "https":
        proxy.request("CONNECT", f"{asked.hostname}:{asked.port or 443}")
    else:
        proxy.request("GET", url)
    got = proxy.getresponse()
    print(f"HTTP {got.status} {got.reason}")
    if asked.scheme == "http" or got.status != 200:
        print(got.read().decode().rstrip())
    return int(got.status != 200)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]), int(sys.argv[3]))
    else:
        sys.exit(get(int(sys.argv[2]), sys.argv[3]))
