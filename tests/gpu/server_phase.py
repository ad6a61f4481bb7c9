"""The server end to end on the device: every method on the tiny checkpoints of tests/e2e against
transformers' answers, health, and a shutdown with work in flight."""

import json
import os
import re
import sys
import threading
import time
import urllib.error
import urllib.request

from phase import ROOT, Server, call, client_paths, import_client, library_environment

# What the emulator does in seconds.
QUICK_TESTS = ["TasksTest.test_classify", "TasksTest.test_masks", "TasksTest.test_rerank"]


def every_method(context):
    environment = library_environment() | {
        "BERTRAND_SERVER": str(context.bundle / "bertrand-server"), "BERTRAND_CLI": str(context.bundle / "bertrand"),
        "BERTRAND_DEVICE": context.device, "BERTRAND_DTYPE": "float32", "BERTRAND_TUNING_TIME": "0",
        "PYTHONPATH": ":".join([*client_paths(context.bundle), os.environ.get("PYTHONPATH", "")]),
        "PYTHONDONTWRITEBYTECODE": "1", "REQUIRE_SERVER": "1"}
    command = [sys.executable, ROOT / "tests/e2e/tasks_test.py", "-v", *(QUICK_TESTS if context.quick else [])]
    status, output = call(command, context.left_s() - 10, env=environment)
    ran = re.search(r"^Ran (\d+) test", output, re.MULTILINE)
    failures = re.findall(r"^(?:FAIL|ERROR): (\S+)", output, re.MULTILINE)
    return {"ran": int(ran.group(1)) if ran else 0, "failures": sorted(set(failures)), "passed": status == 0}


def health_of(address):
    try:
        with urllib.request.urlopen(f"http://{address}/health", timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def drain(context):
    """SIGTERM while a request is computed: it is answered, and the server ends with 0."""
    bertrand = import_client(context)
    server = Server(context, "--model", f"m={ROOT / 'tests/e2e/tasks/nli'}", "--dtype", "float32", "--tuning-time=0")
    texts = ["the cat sits on the mat . " * 4] * (20 if context.quick else 1000)
    answers = []
    try:
        before = health_of(server.http)
        with bertrand.Client(server.address, timeout=60) as client:
            client.classify(texts[:1], model="m")

            def ask():
                try:
                    answers.append(len(client.classify(texts, model="m")))
                except bertrand.Error as error:
                    answers.append(str(error))

            thread = threading.Thread(target=ask)
            thread.start()
            time.sleep(0.1)
            status = server.stop(30)
            thread.join(60)
    except BaseException:
        server.process.kill()
        raise
    return {"health_before": before, "exit_status": status, "answered": answers,
            "passed": before == 200 and status == 0 and answers == [len(texts)]}


def server(context):
    results = {}
    for name, check in (("every_method", every_method), ("drain", drain)):
        try:
            results[name] = check(context)
        except Exception as error:
            results[name] = {"passed": False, "error": str(error)[-800:]}
        print(json.dumps(results[name]), flush=True)
        context.save(results)
    return results
