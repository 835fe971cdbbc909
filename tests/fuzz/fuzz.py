"""Feeds mutated bytes to the readers, guided by the coverage that they bring, and keeps what brings more.

``python tests/fuzz/fuzz.py --seconds 1200`` goes on where the inputs in ``tests/fuzz/corpus`` end, and shares
the time among all readers; names of readers choose some. An input that makes a reader fail is kept as
``crash-…``, where the tests find it, and the reader's turn ends. Needs ``pip install nasframe[fuzz]``.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from corpus import inputs_of, keep

LONGEST = 8192
INSTRUMENTED = ["nasframe", "yaml", "json", "omegaconf", "zipfile", "pickletools"]
FAILURES = ("crash-", "timeout-", "oom-", "leak-")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("readers", nargs="*", help="which; all by default")
    parser.add_argument("--seconds", type=float, default=1200, help="in all (default: %(default)s)")
    parser.add_argument("--in-this-process", action="store_true", help=argparse.SUPPRESS)
    arguments, of_libfuzzer = parser.parse_known_args()
    if arguments.in_this_process:
        fuzz(arguments.readers[0], of_libfuzzer)
        return
    from readers import READERS

    names = arguments.readers or list(READERS)
    for index, name in enumerate(names, 1):
        started = time.monotonic()
        before = inputs_of(name)
        after = take_turn(name, before, arguments.seconds / len(names))
        failures = [each for each in after if each.startswith(FAILURES) and each not in before]
        print(
            f"{index}/{len(names)} {name}: {time.monotonic() - started:.0f} s, {len(after)} inputs, "
            f"failures: {', '.join(failures) or 'none'}",
            flush=True,
        )


def take_turn(name: str, known: Mapping[str, bytes], seconds: float) -> Mapping[str, bytes]:
    """Fuzz one reader in a process of its own, which it may crash; keep what brings coverage."""
    command = [sys.executable, __file__, name, "--in-this-process"]
    with tempfile.TemporaryDirectory(prefix="nasframe-fuzz-") as folder:
        found, failed = (Path(folder) / each for each in ("found", "failed"))
        for each in (found, failed):
            each.mkdir()
        for each, content in known.items():
            if not each.startswith(FAILURES):
                (found / each).write_bytes(content)
        words = Path(folder) / "words"
        words.write_text("".join(f'"{word}"\n' for word in words_of(known)), encoding="utf-8")
        # some slack, since a machine may be suspended
        limits = [
            f"-max_total_time={seconds:.0f}",
            f"-max_len={LONGEST}",
            "-timeout=600",
            "-rss_limit_mb=4000",
        ]
        print(*[*command, *limits], flush=True)
        subprocess.run(
            [*command, *limits, f"-artifact_prefix={failed}/", f"-dict={words}", str(found)], check=False
        )
        inputs = {each.name if each.name in known else each.name[:12]: each for each in found.iterdir()}
        kept = {each: path.read_bytes() for each, path in inputs.items()}
        kept |= {each.name[:18]: each.read_bytes() for each in failed.iterdir()}
    keep(name, kept)
    return kept


def words_of(inputs: Mapping[str, bytes]) -> list[str]:
    """The words of the inputs, for libFuzzer's dictionary."""
    found = (re.findall(rb"[A-Za-z_][A-Za-z0-9_.-]{2,30}", content) for content in inputs.values())
    return list(dict.fromkeys(word.decode() for words in found for word in words))[:400]


def fuzz(name: str, of_libfuzzer: list[str]) -> None:
    """Fuzz one reader until libFuzzer ends this process."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        from readers import read

        import nasframe

        for registry in nasframe.registries.values():
            for each in registry.names():
                registry[each]
    atheris.Setup([sys.argv[0], *of_libfuzzer], lambda content: read(name, content) and None)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
