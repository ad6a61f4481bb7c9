"""--model ORG/NAME against a small hub on this machine: what is fetched, where it is put, what is
checked, what is said when it goes wrong. Needs only Python's standard library.

Environment: BERTRAND_SERVER, the server's binary.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest
from pathlib import Path

SERVER = os.environ["BERTRAND_SERVER"]
CHECKPOINT = Path(__file__).parent / "tasks" / "entities"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_aSecretThatNobodyMaySee"


class Hub:
    """A hub with files of one model, org/name, whose weights lie on a host of their own."""

    def __init__(self) -> None:
        self.files = {path.name: path.read_bytes() for path in CHECKPOINT.iterdir()}
        self.files["README.md"] = b"not needed"
        self.files["tf_model.h5"] = b"not needed"
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.status = 200
        self.headers: dict[str, str] = {}
        self.break_after = -1  # bytes of a stored file, once
        self.slow = False
        self.damage = False
        self.storage = self.serve("storage")
        self.endpoint = self.serve("hub")

    def serve(self, role: str) -> str:
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None: ...

            def do_GET(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                hub.requests.append((role, f"{self.command} {self.path}", headers))
                getattr(hub, f"answer_{role}")(self, headers)

            do_HEAD = do_GET

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        server.handle_error = lambda *_: None  # connections that clients broke
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}"

    @staticmethod
    def send(handler, status: int, body: bytes = b"", **headers: str) -> None:
        handler.send_response(status)
        headers.setdefault("Content-Length", str(len(body)))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)

    def answer_hub(self, handler, headers: dict[str, str]) -> None:
        if self.status != 200:
            self.send(handler, self.status, **self.headers)
            return
        path = handler.path
        if path.startswith("/api/models/old-name/"):
            self.send(handler, 307, Location=path.replace("old-name", "org/name"))
        elif path in (f"/api/models/org/name/revision/{name}" for name in ("main", "v1", COMMIT)):
            names = [{"rfilename": name} for name in self.files]
            self.send(handler, 200, json.dumps({"sha": COMMIT, "siblings": names}).encode())
        elif path.startswith("/old-name/resolve/"):
            self.send(handler, 307, Location=path.replace("/old-name/", "/org/name/"))
        elif path.startswith(f"/org/name/resolve/{COMMIT}/"):
            name = path.removeprefix(f"/org/name/resolve/{COMMIT}/")
            body = self.files[name]
            common = {"X_Repo_Commit": COMMIT}
            if name.endswith((".safetensors", ".bin")):
                linked = {"X_Linked_Etag": f'"{hashlib.sha256(body).hexdigest()}"',
                          "X_Linked_Size": str(len(body)), "Location": f"{self.storage}/{name}"}
                self.send(handler, 302, b"moved", **common, **linked)
            else:
                etag = hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
                self.send(handler, 200, body, ETag=f'W/"{etag}"', **common)
        else:
            self.send(handler, 404, X_Error_Code="RevisionNotFound")

    def answer_storage(self, handler, headers: dict[str, str]) -> None:
        body = self.files[handler.path[1:]]
        if self.damage:
            body = body[:-1] + bytes([body[-1] ^ 1])
        first = int(headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        rest = body[first:]
        status = 206 if first else 200
        if self.slow:
            handler.send_response(status)
            handler.send_header("Content-Length", str(len(rest)))
            handler.end_headers()
            handler.wfile.write(rest[:1000])
            handler.wfile.flush()
            time.sleep(30)
        elif self.break_after >= 0:
            part, self.break_after = rest[: self.break_after], -1
            handler.send_response(status)
            handler.send_header("Content-Length", str(len(rest)))
            handler.end_headers()
            handler.wfile.write(part)
            handler.close_connection = True
        else:
            self.send(handler, status, rest)


class HubTest(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="bertrand-hub-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.hub = Hub()
        self.model = self.folder / "hub" / "models--org--name"
        self.snapshot = self.model / "snapshots" / COMMIT

    def environment(self, **more: str) -> dict[str, str]:
        kept = ("PATH", "ASAN_OPTIONS", "LD_LIBRARY_PATH")
        environment = {name: os.environ[name] for name in kept if name in os.environ}
        environment |= {"HF_HOME": str(self.folder), "HF_ENDPOINT": self.hub.endpoint}
        return environment | {"HOME": str(self.folder)} | more

    def check(self, source: str = "org/name", **more: str) -> subprocess.CompletedProcess[str]:
        """Loads the model and exits; the token must never be in what it prints."""
        done = subprocess.run(
            [SERVER, "--model", source, "--check", "--threads", "1"], capture_output=True,
            text=True, timeout=60, env=self.environment(**more), check=False)
        self.assertNotIn(TOKEN, done.stdout + done.stderr)
        self.assertEqual(done.stdout, "")
        return done

    def loads(self, source: str = "org/name", **more: str) -> str:
        done = self.check(source, **more)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stderr

    def fails(self, *words: str, source: str = "org/name", **more: str) -> None:
        """Ends non-zero, with all `words` in one last line."""
        done = self.check(source, **more)
        self.assertEqual(done.returncode, 1, done.stderr)
        last = done.stderr.strip().splitlines()[-1]
        self.assertTrue(last.startswith("bertrand-server: "), done.stderr)
        for word in words:
            self.assertIn(word, last)

    def asked(self, role: str = "hub") -> list[str]:
        return [request for to, request, _ in self.hub.requests if to == role]

    def test_layout_and_choice_of_files(self) -> None:
        self.hub.files["bertrand-fp8.json"] = b"of whoever published the model"
        log = self.loads()
        self.assertIn("downloading org/name: model.safetensors", log)
        self.assertEqual({path.name for path in self.snapshot.iterdir()},
                         {"bertrand-fp8.json", *(path.name for path in CHECKPOINT.iterdir())})
        for path in self.snapshot.iterdir():
            self.assertEqual(path.read_bytes(), self.hub.files[path.name])
            link = os.readlink(path)
            self.assertTrue(link.startswith("../../blobs/"), link)
        weights = self.hub.files["model.safetensors"]
        self.assertEqual(os.readlink(self.snapshot / "model.safetensors"),
                         "../../blobs/" + hashlib.sha256(weights).hexdigest())
        self.assertEqual((self.model / "refs" / "main").read_text(), COMMIT)
        self.assertEqual([p for p in self.folder.rglob("*") if "incomplete" in p.name], [])

    def test_what_is_there_is_not_asked_for_again(self) -> None:
        self.loads()
        self.hub.requests.clear()
        self.loads()
        self.loads(f"org/name@{COMMIT}")
        self.loads(HF_HUB_OFFLINE="1")
        self.assertEqual(self.hub.requests, [])
        # Another revision of the same commit: no file comes twice.
        self.loads("name=org/name@v1")
        self.assertEqual(self.asked(), ["GET /api/models/org/name/revision/v1"])
        self.assertEqual((self.model / "refs" / "v1").read_text(), COMMIT)

    def test_modules_shards_and_old_weights(self) -> None:
        files = self.hub.files
        weights = files.pop("model.safetensors")
        files["modules.json"] = json.dumps([
            {"path": "0_Transformer", "type": "sentence_transformers.models.Transformer"},
            {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]).encode()
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
            files[f"0_Transformer/{name}"] = files.pop(name)
        files["0_Transformer/sentence_bert_config.json"] = b'{"max_seq_length": 32}'
        files["0_Transformer/vocab.txt"] = b"not needed beside tokenizer.json"
        files["0_Transformer/pytorch_model.bin"] = b"not needed beside safetensors"
        files["0_Transformer/shard-a.safetensors"] = weights
        size = int.from_bytes(weights[:8], "little")
        names = [name for name in json.loads(weights[8 : 8 + size]) if name != "__metadata__"]
        index = {"weight_map": {name: "shard-a.safetensors" for name in names}}
        files["0_Transformer/model.safetensors.index.json"] = json.dumps(index).encode()
        files["1_Pooling/config.json"] = json.dumps(
            {"word_embedding_dimension": 16, "pooling_mode_cls_token": True}).encode()
        done = self.check()
        fetched = {str(path.relative_to(self.snapshot))
                   for path in self.snapshot.rglob("*") if path.is_symlink()}
        wanted = set(files) - {"README.md", "tf_model.h5", "0_Transformer/vocab.txt",
                               "0_Transformer/pytorch_model.bin"}
        self.assertEqual(fetched, wanted, done.stderr)
        self.assertEqual((self.snapshot / "1_Pooling/config.json").read_bytes(),
                         files["1_Pooling/config.json"])

    def test_an_interrupted_download_goes_on(self) -> None:
        weights = self.hub.files["model.safetensors"]
        blob = self.model / "blobs" / hashlib.sha256(weights).hexdigest()
        self.hub.slow = True
        command = [SERVER, "--model", "org/name", "--check"]
        with subprocess.Popen(command, env=self.environment(), stderr=subprocess.PIPE) as process:
            partial = blob.with_name(blob.name + ".incomplete")
            deadline = time.monotonic() + 30
            while not (partial.exists() and partial.stat().st_size == 1000):
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            self.assertEqual(process.wait(10), 128 + signal.SIGINT)
        self.assertFalse((self.snapshot / "model.safetensors").exists())
        self.assertFalse((self.model / "refs" / "main").exists())
        self.hub.slow = False
        self.hub.requests.clear()
        self.loads()
        ranges = [headers.get("range") for _, request, headers in self.hub.requests
                  if "model.safetensors" in request and request.startswith("GET")]
        self.assertEqual(set(ranges), {"bytes=1000-"})
        self.assertEqual(blob.read_bytes(), weights)

    def test_a_broken_connection_goes_on(self) -> None:
        self.hub.break_after = 500
        self.loads()
        ranges = [headers.get("range") for to, _, headers in self.hub.requests if to == "storage"]
        self.assertEqual(ranges, [None, "bytes=500-"])

    def test_two_servers_at_once_fetch_once(self) -> None:
        command = [SERVER, "--model", "org/name", "--check"]
        processes = [subprocess.Popen(command, env=self.environment(), stderr=subprocess.DEVNULL)
                     for _ in range(3)]
        self.assertEqual([process.wait(60) for process in processes], [0, 0, 0])
        self.assertEqual(self.asked("storage"), ["GET /model.safetensors"])

    def test_a_disk_that_is_full(self) -> None:
        # A limit on a file's size is as good.
        done = subprocess.run(
            ["bash", "-c", 'trap "" XFSZ; ulimit -f 4; exec "$0" --model org/name --check', SERVER],
            capture_output=True, text=True, timeout=60, env=self.environment(), check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(".incomplete: File too large", done.stderr)
        self.loads()

    def test_damaged_weights_are_refused_and_removed(self) -> None:
        self.hub.damage = True
        self.fails("model.safetensors", "sha256", "start again")
        self.assertEqual([path for path in (self.model / "blobs").iterdir()
                          if path.name.endswith(".incomplete")], [])
        self.assertFalse((self.snapshot / "model.safetensors").exists())
        self.hub.damage = False
        self.loads()

    def test_a_snapshot_of_others_is_completed_or_used_as_it_is(self) -> None:
        self.snapshot.mkdir(parents=True)
        (self.model / "refs").mkdir()
        (self.model / "refs" / "main").write_text(COMMIT)
        for name in ("config.json", "model.safetensors"):
            (self.snapshot / name).write_bytes(self.hub.files[name])
        self.loads()
        self.assertTrue((self.snapshot / "tokenizer.json").exists())
        self.assertNotIn(f"HEAD /org/name/resolve/{COMMIT}/config.json", self.asked())
        # Without our mark, and without a hub.
        shutil.rmtree(self.model / ".bertrand")
        self.assertIn("used as it is", self.loads(HF_ENDPOINT="http://127.0.0.1:9"))

    def test_a_model_that_was_renamed(self) -> None:
        self.loads("old-name")
        self.assertTrue((self.folder / "hub" / "models--old-name" / "refs" / "main").exists())

    def test_the_token_goes_to_the_hub_only(self) -> None:
        self.loads(HF_TOKEN=TOKEN + "\n")
        for to, request, headers in self.hub.requests:
            expected = f"Bearer {TOKEN}" if to == "hub" else None
            self.assertEqual(headers.get("authorization"), expected, request)
        shutil.rmtree(self.model)
        (self.folder / "token").write_text(TOKEN)
        self.hub.requests.clear()
        self.loads()
        self.assertEqual(self.hub.requests[0][2].get("authorization"), f"Bearer {TOKEN}")

    def test_errors_say_what_to_do(self) -> None:
        self.fails("org/name", "127.0.0.1:9", "cannot be read", HF_ENDPOINT="http://127.0.0.1:9")
        self.fails("HF_HUB_OFFLINE", "models--org--name", HF_HUB_OFFLINE="1")
        self.fails("answers 404", "behind the @", source="org/name@v9")
        self.hub.status = 401
        self.hub.headers = {"X_Error_Message": "Repository not found"}
        self.fails("401", "Repository not found", "check the name, or set HF_TOKEN")
        self.fails("401", "the token (HF_TOKEN", HF_TOKEN=TOKEN)
        self.hub.status = 403
        self.hub.headers = {"X_Error_Code": "GatedRepo", "X_Error_Message": "awaiting review"}
        self.fails("403", "awaiting review", "gated", HF_TOKEN=TOKEN)
        self.hub.status = 404
        self.hub.headers = {"X_Error_Code": "RepoNotFound"}
        self.fails("404", "check the name")
        self.hub.status = 200
        del self.hub.files["model.safetensors"]
        self.fails("neither model.safetensors nor pytorch_model.bin", "it has tf_model.h5")
        self.assertFalse(self.snapshot.exists())

    def test_hostile_answers(self) -> None:
        self.hub.files["../../escaped_config.json"] = b"{}"
        self.hub.files["/sentence_x_config.json"] = b"{}"
        self.loads()
        self.assertEqual(list(self.folder.rglob("*escaped*")), [])


if __name__ == "__main__":
    unittest.main()
