"""Nothing is asked of the network: not by an import, nor by reading a recipe, nor by a test."""

import socket
import subprocess
import sys

import pytest

ASKED = """
import sys

def offline(event, arguments):
    if event.startswith(("socket.connect", "socket.gethost", "socket.getaddrinfo", "socket.send", "urllib")):
        sys.exit(f"{event} {arguments}")

sys.addaudithook(offline)
"""
EVERYTHING = """
import importlib, pkgutil
import nasframe
for module in pkgutil.walk_packages(nasframe.__path__, "nasframe."):
    if module.name != "nasframe.__main__":
        importlib.import_module(module.name)
for registry in nasframe.registries.values():
    for name in registry.names():
        registry[name]
nasframe.load_recipe("digits_darts")
nasframe.load_recipe("cifar_darts", check=False)
print("all imported")
"""


def test_no_import_and_no_recipe_asks_the_network() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ASKED + EVERYTHING], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "all imported\n"


def test_a_test_that_asks_the_network_fails() -> None:
    nowhere = "192.0.2.1"  # an address of no machine
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as letters:
        for ask in (
            lambda: socket.create_connection((nowhere, 80), timeout=1),
            lambda: socket.getaddrinfo("example.org", 443),
            lambda: letters.sendto(b"", (nowhere, 53)),
        ):
            with pytest.raises(RuntimeError, match="no test may use the network"):
                ask()


def test_a_test_may_ask_its_own_machine() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=5).close()
