"""What a person at a terminal gets after `ready`: a call to copy, which works for whatever the model
does. Needs only Python's standard library.

Environment: BERTRAND_SERVER and BERTRAND_CLI, the binaries, in one folder.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import shlex
import subprocess
import tempfile
import unittest
from collections.abc import Iterator
from pathlib import Path

SERVER = os.environ["BERTRAND_SERVER"]
CLI = os.environ["BERTRAND_CLI"]
TASKS = Path(__file__).parent / "tasks"


@contextlib.contextmanager
def server(model: Path, *, terminal: bool) -> Iterator[tuple[str, str]]:
    """Runs a server; gives its ready line and, of what stands behind it, standard error's text."""
    ours, theirs = pty.openpty()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [SERVER, "--model", str(model), "--grpc-address", "127.0.0.1:0",
             "--http-address", "127.0.0.1:0", "--threads", "1", "--log-level", "error"],
            stdout=subprocess.PIPE, stderr=theirs if terminal else log)
        os.close(theirs)
        try:
            ready = process.stdout.readline().decode()
            text = ""
            while terminal and "bertrand.v1.Inference/" not in text:
                text += os.read(ours, 10_000).decode()
            log.seek(0)
            yield ready, text + log.read().decode()
        finally:
            process.terminate()
            process.wait(20)
            process.stdout.close()
            os.close(ours)


class TerminalTest(unittest.TestCase):
    def test_the_call_works_for_every_task(self) -> None:
        commands = {}
        for folder in sorted(path for path in TASKS.iterdir() if path.is_dir()):
            with self.subTest(folder.name), server(folder, terminal=True) as (ready, text):
                address = re.fullmatch(r"ready grpc=(\S+) http=\S+\n", ready)[1]
                call = shlex.split(text.split("Try it")[1].splitlines()[1])
                self.assertEqual(Path(call[0]).resolve(), Path(CLI).resolve())
                self.assertEqual(call[2:4], ["--address", address])
                done = subprocess.run(call, capture_output=True, text=True, timeout=30, check=False)
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                commands[folder.name] = call[1]
        self.assertEqual(commands, {
            "answers": "answer", "entities": "entities", "masks": "fill-mask", "nli": "classify",
            "pairs": "pair", "recurrent": "classify", "relevance": "rerank",
            "replaced": "replaced"})

    def test_a_log_gets_no_such_thing(self) -> None:
        with server(TASKS / "entities", terminal=False) as (ready, text):
            self.assertTrue(ready.startswith("ready "))
            self.assertEqual(text, "")


if __name__ == "__main__":
    unittest.main()
