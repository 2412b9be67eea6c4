"""Bundles in headless Chromium, in turns in one page: onnxruntime-web alone, and with our kernels for the scans.

python benchmarks/browser.py BUNDLE... [--threads 1] [--rounds 30] [--gpu]
Chromium and chromedriver have to be installed, and ziglang, which compiles the kernels. Each way has to meet the golden
pair before it is timed. --gpu: also WebGPU, by the software adapter where the machine has no GPU.
"""

import argparse
import re
import shutil
import statistics
import tempfile
import threading
from pathlib import Path
from typing import Any

from rows import save, table
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from evm_deploy.profiling.devices import browser
from evm_deploy.profiling.profile_options import ProfileOptions
from evm_deploy.profiling.report import ProfileReport

FLAGS = ("headless=new", "no-sandbox", "no-first-run", "disable-background-networking")
NO_GPU = ("disable-gpu",)
GPU = ("enable-unsafe-webgpu", "use-webgpu-adapter=swiftshader", "enable-features=Vulkan")


def main() -> None:
    """Prints a Markdown table, writes benchmarks/results/browser.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--gpu", action="store_true")
    arguments = parser.parse_args()
    options = ProfileOptions(
        device="browser", threads=arguments.threads, iterations=arguments.rounds, warm_up=5, timeout=900
    )
    report = measure(arguments.bundles, options, (*FLAGS, *(GPU if arguments.gpu else NO_GPU)))
    rows = [row(report, result) for result in report.results]
    print(table(rows))
    print(*report.warnings, sep="\n")
    save(Path(__file__).parent / "results" / "browser.json", rows, versions=dict(report.conditions.versions))


def measure(bundles: list[Path], options: ProfileOptions, flags: tuple[str, ...]) -> ProfileReport:
    """What the page that Chromium opens sends back."""
    with tempfile.TemporaryDirectory() as folder:
        chromium = webdriver.ChromeOptions()
        chromium.binary_location = str(shutil.which("chromium"))
        for flag in (*flags, f"user-data-dir={folder}"):
            chromium.add_argument(f"--{flag}")
        driver = webdriver.Chrome(options=chromium, service=Service(shutil.which("chromedriver")))

        def say(text: str) -> None:
            if found := re.search(r"waiting for a browser to open (http://\S+)", text):
                threading.Thread(target=driver.get, args=(found[1],)).start()

        try:
            return browser.measure("", bundles, options, say)
        finally:
            driver.quit()


def row(report: ProfileReport, result: Any) -> dict[str, Any]:
    """The median of a way, and what share it is of that of onnxruntime-web's own WASM; "-" where it did not run."""
    first = next(other for other in report.results if other.bundle == result.bundle and not other.error)
    median = None if result.error else statistics.median(result.samples_ms)
    return {
        "bundle": result.bundle,
        "way": result.runtime,
        "golden pair": result.golden.relative_error if result.golden else None,
        "median ms": median,
        "of the first": None if median is None else median / statistics.median(first.samples_ms),
        "load ms": result.load_ms,
        "error": result.error,
    }


if __name__ == "__main__":
    main()
