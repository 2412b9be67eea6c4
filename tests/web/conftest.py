"""The page's modules, each called in Chromium as a function of JSON."""

import functools
import http.server
import threading
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest

from evm_deploy.web import list_page_files

CALL = """
const [module, source, given, done] = [...arguments];
import(module).then(async (loaded) => done({ answer: await eval(source)(loaded, given) }))
  .catch((error) => done({ error: String(error.message ?? error) }));
"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    extensions_map: ClassVar[dict[str, str]] = {".mjs": "text/javascript", ".html": "text/html"}

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="session")
def modules(chromium_of_session: Any) -> Iterator[Callable[..., Any]]:
    """`modules("png.mjs", "(module, given) => ...", given)` is what the function returns; it raises what it throws."""
    folder = str(list_page_files()["index.html"].parent)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    base = f"http://127.0.0.1:{server.server_port}/"
    driver = chromium_of_session.driver
    driver.get(base + "missing")  # the error is a page of that address which does nothing

    def call(module: str, source: str, given: Any = None) -> Any:
        outcome = driver.execute_async_script(CALL, base + module, source, given)
        if "error" in outcome:
            raise RuntimeError(outcome["error"])
        return outcome["answer"]

    yield call
    server.shutdown()
    thread.join()
    server.server_close()
