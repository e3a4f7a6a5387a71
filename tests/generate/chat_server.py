"""A chat endpoint on this machine: it does what a script says, and remembers what it was sent."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, dict[str, str], Any]
"""Status, headers, and a body: a string as it is, anything else as JSON."""


class Endpoint:
    """What the server was asked, and how many calls ran at one time."""

    def __init__(self, script: Callable[[int, dict[str, Any]], Reply]) -> None:
        self.script = script
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.running = self.most_running = 0
        self.lock = threading.Lock()
        self.url = ""


def items_of(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The items of a prompt."""
    items: list[dict[str, Any]] = json.loads(body["messages"][-1]["content"])["items"]
    return items


def completion(content: Any, prompt: int = 100, output: int = 20, finish: str = "stop") -> dict[str, Any]:
    """A reply in the endpoint's form; `content` is JSON unless it is a string."""
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}
    usage = {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}
    return {"choices": [choice], "usage": usage}


def obliging(number: int, body: dict[str, Any]) -> Reply:
    """Adds a few words to each text."""
    items = [{"id": i["id"], "text": added(i["text"])} for i in items_of(body)]
    return 200, {}, completion({"items": items})


def added(text: str) -> str:
    """A text with a few words more, in its language."""
    chinese = any("\u4e00" <= char <= "\u9fff" for char in text)
    return f"{text}，实用好看" if chinese else f"{text} - handy every day"


@contextlib.contextmanager
def serving(script: Callable[[int, dict[str, Any]], Reply] = obliging) -> Iterator[Endpoint]:
    """The endpoint at `url` for as long as the block runs."""
    endpoint = Endpoint(script)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with endpoint.lock:
                number = len(endpoint.bodies)
                endpoint.bodies.append(body)
                endpoint.headers.append(dict(self.headers.items()))
                endpoint.running += 1
                endpoint.most_running = max(endpoint.most_running, endpoint.running)
            try:
                status, headers, reply = endpoint.script(number, body)
            finally:
                with endpoint.lock:
                    endpoint.running -= 1
            data = (reply if isinstance(reply, str) else json.dumps(reply)).encode()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the client has hung up
                self.send_response(status if self.path == "/v1/chat/completions" else 404)
                for name, value in {**headers, "Content-Length": str(len(data))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    endpoint.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def slowly(seconds: float) -> Callable[[int, dict[str, Any]], Reply]:
    """Obliging, after a while."""

    def script(number: int, body: dict[str, Any]) -> Reply:
        time.sleep(seconds)
        return obliging(number, body)

    return script
