"""A model is pushed to and fetched from a server on this machine that answers the real client as the Hub does."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import bype

pytest.importorskip("huggingface_hub", reason="needs the extra hub")
COMMIT = "1" * 40
SCRIPT = """
import sys, bype
print(bype.push_to_hub(sys.argv[1], "user/model", license="mit", token="hf_secret"))
model = bype.from_pretrained("user/model", device="cpu")
model.save(sys.argv[2])
"""


class Hub(BaseHTTPRequestHandler):
    """The part of the Hub that one upload and one download ask for."""

    files, requests, refused = {}, [], None

    def log_message(self, *args):
        pass

    def answer(self, body, code=200, **headers):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.requests.append((self.path, body, self.headers.get("Authorization")))
        if self.refused:
            self.answer({"error": "refused"}, self.refused)
        elif self.path == "/api/repos/create":
            self.answer({"url": f"http://{self.headers['Host']}/user/model", "id": "user/model"})
        elif self.path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif self.path.endswith("/preupload/main"):
            names = [f["path"] for f in json.loads(body)["files"]]
            self.answer({"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]})
        elif self.path.endswith("/commit/main"):
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            url = f"http://{self.headers['Host']}/user/model/commit/{COMMIT}"
            self.answer({"success": True, "commitOid": COMMIT, "commitUrl": url})
        else:
            self.answer({"error": self.path}, 404)

    def do_GET(self):
        place = self.path.partition("?")[0]
        if place.startswith("/api/models/user/model/tree/"):
            self.answer([
                {"type": "file", "path": n, "size": len(c), "oid": hashlib.sha1(c).hexdigest()}
                for n, c in self.files.items()
            ])  # fmt: skip
        elif place.startswith("/api/models/user/model"):
            siblings = [{"rfilename": name} for name in self.files]
            self.answer({"id": "user/model", "sha": COMMIT, "siblings": siblings, "private": True, "tags": []})
        elif (name := place.rpartition("/")[2]) in self.files and "/resolve/" in place:
            content = self.files[name]
            self.answer(content, ETag=f'"{hashlib.sha1(content).hexdigest()}"', X_Repo_Commit=COMMIT)
        else:
            self.answer({"error": place}, 404)

    def do_HEAD(self):
        self.do_GET()


@pytest.fixture
def server():
    """The address of the server, and its state."""
    state = type("State", (Hub,), {"files": {}, "requests": [], "refused": None})
    running = ThreadingHTTPServer(("127.0.0.1", 0), state)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}", state
    running.shutdown()
    running.server_close()


def run(address, home, *args):
    env = os.environ | {"HF_ENDPOINT": address, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    env |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    env.pop("HF_HUB_OFFLINE", None)
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, args)], env=env, capture_output=True, text=True, check=False
    )


def test_the_real_client_uploads_a_model_and_fetches_the_same_bits(server, trained, tmp_path):
    address, state = server
    done = run(address, tmp_path / "home", trained["vamp"], tmp_path / "back.safetensors")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{address}/user/model/commit/{COMMIT}\n"
    assert sorted(state.files) == ["README.md", "config.json", "model.safetensors"]
    created = next(json.loads(body) for path, body, _ in state.requests if path == "/api/repos/create")
    assert created.get("private") or created["visibility"] == "private"  # by version of the client
    assert {token for path, _, token in state.requests if path != "/api/validate-yaml"} == {"Bearer hf_secret"}
    assert b"hf_secret" not in b"".join(state.files.values())
    assert (tmp_path / "back.safetensors").read_bytes() == state.files["model.safetensors"]
    bype.Run.open(trained["vamp"]).load("cpu").model.save(tmp_path / "own.safetensors")
    assert (tmp_path / "own.safetensors").read_bytes() == state.files["model.safetensors"]


@pytest.mark.parametrize("code", [401, 403, 500])
def test_a_hub_that_refuses_is_one_line(server, trained, tmp_path, code):
    address, state = server
    state.refused = code
    done = run(address, tmp_path / "home", trained["vamp"], tmp_path / "back.safetensors")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("bype.core.errors.InputError: user/model: ")
    assert "hf_secret" not in done.stderr
