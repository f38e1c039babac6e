"""Downloads from a server on this machine: checked, whole or not at all, in GLUE's layout."""

import hashlib
import http.server
import io
import threading
import zipfile

import pytest

from hybridattn import fetch, glue
from hybridattn.cli import main as cli
from hybridattn.errors import ConfigError, HybridAttnError


def archive(files):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as out:
        for name, text in files.items():
            out.writestr(name, text)
    return content.getvalue()


@pytest.fixture
def server(tmp_path, monkeypatch):
    """(address, put): `put(url, bytes)` serves bytes under the path of a url and gives its `Remote`."""
    served = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            content = served.get(self.path)
            self.send_response(404 if content is None else 200)
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *args):
            pass

    def put(remote, content):
        served["/" + remote.url.split("/", 3)[3]] = content
        return remote._replace(size=len(content), sha256=hashlib.sha256(content).hexdigest())

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}", put
        listening.shutdown()


def files_in(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_glue(tmp_path, server, monkeypatch, capsys):
    address, put = server
    head, row = "index\tsentence1\tsentence2", "0\tA.\tB."
    content = {"RTE/train.tsv": f"{head}\tlabel\n{row}\tentailment\n",
               "RTE/dev.tsv": f"{head}\tlabel\n{row}\tnot_entailment\n",
               "RTE/test.tsv": f"{head}\n{row}\n", "RTE/../../x": "no"}  # fmt: skip
    monkeypatch.setitem(fetch.ARCHIVES, "RTE", put(fetch.ARCHIVES["RTE"], archive(content)))
    head = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n"
    mrpc = [
        head + '1\t10\t11\tA \u2028"a\tB\r\n0\t12\t13\tC\tD\r\n',
        head + "1\t20\t21\tE\tF\r\n",
        "12\t13\n",
    ]
    monkeypatch.setattr(fetch, "MRPC", [put(r, text.encode()) for r, text in zip(fetch.MRPC, mrpc)])
    assert (
        cli.main(["fetch", "glue", "--out", str(tmp_path), "--tasks", "RTE,MRPC", "--mirror", address]) == 0
    )
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "RTE"), str(tmp_path / "MRPC")]
    assert files_in(tmp_path) == [f"{t}/{f}.tsv" for t in ("MRPC", "RTE") for f in ("dev", "test", "train")]
    assert not (tmp_path.parent / "x").exists()
    assert glue.read("RTE", tmp_path).labels == [1]
    pairs = [
        [(e.text_a, e.text_b, e.label) for e in glue.read("MRPC", tmp_path, split).examples]
        for split in ("train", "validation", "test")
    ]
    assert pairs == [[('A \u2028"a', "B", 1)], [("C", "D", 0)], [("E", "F", None)]]
    # what is there is not downloaded again
    assert fetch.glue(tmp_path, ["RTE"], "http://127.0.0.1:9") == [tmp_path / "RTE"]
    # nor written over when another file is missing
    for name in ("RTE", "MRPC"):
        (tmp_path / name / "train.tsv").write_text("mine")
        (tmp_path / name / "dev.tsv").unlink()
    fetch.glue(tmp_path, ["RTE", "MRPC"], address)
    assert glue.read("RTE", tmp_path).labels == [1] and glue.read("MRPC", tmp_path).labels == [0]
    assert [(tmp_path / name / "train.tsv").read_text() for name in ("RTE", "MRPC")] == ["mine"] * 2
    with pytest.raises(ConfigError, match="task is 'CoLa'; allowed: CoLA, SST-2"):
        fetch.glue(tmp_path, ["CoLa"])


def test_squad(tmp_path, server, monkeypatch):
    address, put = server
    wanted = [put(remote, b"%d" % i) for i, remote in enumerate(fetch.SQUAD)]
    monkeypatch.setattr(fetch, "SQUAD", wanted)
    paths = fetch.squad(tmp_path / "s", address + "/")
    assert [p.name for p in paths] == [f"{a}-v{b}.json" for b in ("1.1", "2.0") for a in ("train", "dev")]
    assert [p.read_text() for p in paths] == list("0123")


@pytest.mark.parametrize("content, message", [
    (b"12345", "gave 5 bytes with SHA-256 [0-9a-f]{64}; allowed: 6 bytes with"),
    (b"123457", "gave 6 bytes with SHA-256"),
    (b"1234567", "gave more than 7 bytes"),
    (None, "404"),
])  # fmt: skip
def test_damaged_downloads_leave_nothing(tmp_path, server, content, message):
    address, put = server
    remote = fetch.SQUAD[0]
    right = remote._replace(size=6, sha256=hashlib.sha256(b"123456").hexdigest())
    if content is not None:
        put(remote, content)
    with pytest.raises(HybridAttnError, match=message) as caught:
        fetch.download(right, tmp_path, address)
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []


def test_damaged_archives(tmp_path, server, monkeypatch, capsys):
    address, put = server
    for content, message in ((archive({"other": "x"}), "no item named 'WNLI/dev.tsv'"), (b"x", "not a zip")):
        monkeypatch.setitem(fetch.ARCHIVES, "WNLI", put(fetch.ARCHIVES["WNLI"], content))
        with pytest.raises(HybridAttnError, match=message):
            fetch.glue(tmp_path, ["WNLI"], address)
    assert files_in(tmp_path) == []
    assert cli.main(["fetch", "squad", "--out", str(tmp_path), "--mirror", "http://127.0.0.1:9"]) == 1
    err = capsys.readouterr().err
    assert (
        err.startswith("error: cannot download http://127.0.0.1:9/SQuAD-explorer/") and err.count("\n") == 1
    )
    assert cli.main(["fetch", "squad", "--out", str(tmp_path), "--tasks", "RTE"]) == 2


def test_every_task_has_a_source():
    assert {name.partition("-mm")[0] for name in glue.TASKS} == {*fetch.ARCHIVES, "MRPC"}
    for remote in (*fetch.ARCHIVES.values(), *fetch.MRPC, *fetch.SQUAD):
        assert remote.url.startswith("https://") and len(remote.sha256) == 64 and remote.size > 0
