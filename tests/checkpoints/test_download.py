"""Downloads from a server on this machine, which can also cut off, lie and hang."""

import hashlib
import http.server
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch
from mmengine.runner import CheckpointLoader

from mmvitx.checkpoints import CheckpointError, download, published
from mmvitx.checkpoints.published import PUBLISHED


class Server(http.server.ThreadingHTTPServer):
    """Serves ``files`` (path -> content) and spoils what is in ``cut``, ``hang`` or ``slow``."""

    daemon_threads = True

    def __init__(self):
        super().__init__(('127.0.0.1', 0), Handler)
        self.files, self.asked = {}, []
        self.cut, self.hang, self.slow = set(), set(), set()
        self.over = threading.Event()
        self.url = f'http://127.0.0.1:{self.server_port}'

    def add(self, path, content):
        """Serve what torch would save; returns the address and the hash."""
        file = io.BytesIO()
        torch.save(content, file)
        self.files[path] = file.getvalue()
        return self.url + path, hashlib.sha256(file.getvalue()).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        content = self.answer()
        if content is None:
            return
        if self.path in self.server.slow:
            self.wfile.write(content[:1000])
            self.wfile.flush()
            self.server.over.wait(20)
            content = content[1000:]
        self.wfile.write(content[: len(content) // 2] if self.path in self.server.cut else content)

    def answer(self):
        path = self.path.split('?')[0]
        if self.command == 'GET':
            self.server.asked.append(self.path)
        if path in self.server.hang:
            self.server.over.wait(20)
        if path not in self.server.files:
            return self.send_error(404)
        content = self.server.files[path]
        self.send_response(200)
        self.send_header('Content-Length', str(len(content)))
        if '/resolve/' in path:  # what the Hugging Face hub says of a file
            self.send_header('X-Repo-Commit', '0' * 40)
            self.send_header('ETag', hashlib.sha256(content).hexdigest())
        self.end_headers()
        return content

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    monkeypatch.setenv('no_proxy', '*')
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,)).start()
        yield server
        server.over.set()
        server.shutdown()


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / 'torch/hub/checkpoints'


def kept(cache: Path) -> list[str]:
    """What is in the cache but for the locks, which are empty."""
    return sorted(p.name for p in cache.glob('*') if p.suffix != '.lock' or p.stat().st_size)


def failure(load, *args) -> str:
    with pytest.raises(CheckpointError) as error:
        load(*args)
    assert '\n' not in str(error.value)
    return str(error.value)


def test_a_url_is_downloaded_once_and_a_bar_shown(server, cache, capsys):
    _, sha256 = server.add('/weights.pth', dict(weight=torch.ones(2)))
    name = f'weights-{sha256[:8]}.pth'
    server.files[f'/{name}'] = server.files.pop('/weights.pth')
    for _ in range(2):
        loaded = CheckpointLoader.load_checkpoint(f'{server.url}/{name}?download=1', 'cpu')
        assert loaded['weight'].tolist() == [1, 1]
    assert server.asked == [f'/{name}?download=1']
    assert kept(cache) == [name]
    assert '100%' in capsys.readouterr().err


def test_a_url_is_loaded_safely(server, cache, monkeypatch):
    class Call:
        def __reduce__(self):
            return os.system, ('true',)

    url, _ = server.add('/crafted.pth', Call())
    models = dict(crafted=url)
    monkeypatch.setattr('mmengine.runner.checkpoint.get_torchvision_models', lambda: models)
    for path in (url, 'torchvision://crafted'):
        message = failure(CheckpointLoader.load_checkpoint, path, 'cpu')
        assert 'holds posix.system' in message
    assert kept(cache) == []


@pytest.mark.parametrize('sha256', ['', '-01234567'], ids=['no hash', 'hash'])
@pytest.mark.parametrize('spoil', ['cut', 'page', 'empty', 'missing'])
def test_what_comes_half_or_wrong_is_not_kept(server, cache, spoil, sha256):
    path = f'/weights{sha256}.pth'
    url, _ = server.add(path, dict(weight=torch.ones(2000)))
    reason = 'SHA-256' if sha256 else 'truncated, damaged or no PyTorch checkpoint'
    if spoil == 'cut':
        server.cut.add(path)
    elif spoil == 'page':
        server.files[path] = b'<html>please log in</html>'
    elif spoil == 'empty':
        server.files[path] = b''
        reason = reason if sha256 else 'is empty'
    else:
        del server.files[path]
        reason = 'HTTP Error 404'
    message = failure(download.download, url)
    for part in (url, reason, sha256[1:], f'put it into {cache}'):
        assert part in message
    assert kept(cache) == []

    server.cut.clear()
    if not sha256:  # and the next time it works
        server.add(path, dict(weight=torch.ones(2000)))
        assert torch.load(download.download(url))['weight'].shape == (2000,)


@pytest.mark.parametrize(
    ('address', 'reason'),
    [
        ('http://127.0.0.1:1/a.pth', 'Connection refused'),
        ('http://127.0.0.1:port/a.pth', 'nonnumeric port'),
        ('http://no-such-host.invalid/a.pth', 'not known'),
    ],
)
def test_no_server_is_one_sentence(server, cache, address, reason):
    message = failure(download.download, address)
    for part in (address, reason, f'put it into {cache}'):
        assert part in message


def test_a_server_that_hangs_is_given_up(server, cache, monkeypatch):
    monkeypatch.setattr(download, 'TIMEOUT', 0.2)
    url, _ = server.add('/weights.pth', {})
    server.hang.add('/weights.pth')
    assert 'timed out' in failure(download.download, url)
    assert kept(cache) == []


def test_a_download_that_was_killed_leaves_nothing_and_can_be_repeated(server, cache):
    url, _ = server.add('/weights.pth', dict(weight=torch.ones(5000)))
    server.slow.add('/weights.pth')
    code = f'from mmvitx.checkpoints.download import download; download({url!r})'
    process = subprocess.Popen([sys.executable, '-c', code], stderr=subprocess.DEVNULL)
    try:
        deadline = time.time() + 60
        while not list(cache.glob('*.partial')) and time.time() < deadline:
            time.sleep(0.05)
        assert [name for name in kept(cache) if not name.endswith('.partial')] == []
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert list(cache.glob('*.partial'))

    server.slow.clear()
    assert torch.load(download.download(url))['weight'].shape == (5000,)
    assert kept(cache) == ['weights.pth']


def test_of_several_at_once_one_downloads(server, cache):
    url, _ = server.add('/weights.pth', dict(weight=torch.ones(5000)))
    server.slow.add('/weights.pth')
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(download.download(url))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    server.over.set()
    for thread in threads:
        thread.join()
    assert results == [cache / 'weights.pth'] * 3
    assert len(server.asked) == 1


def test_a_file_put_there_by_hand_is_used_and_checked(server, cache):
    _, sha256 = server.add('/weights.pth', dict(weight=torch.ones(2)))
    path = cache / f'weights-{sha256[:8]}.pth'
    address = f'{server.url}/{path.name}'
    cache.mkdir(parents=True)
    path.write_bytes(server.files['/weights.pth'])
    assert download.download(address) == path and not server.asked
    path.write_bytes(path.read_bytes()[:-1])
    assert f'remove {path} and try again' in failure(download.download, address)


def test_a_cache_that_cannot_be_written_is_one_sentence(server, tmp_path):
    (tmp_path / 'torch').write_text('a file where the folder should be')
    url, _ = server.add('/weights.pth', {})
    assert 'Not a directory' in failure(download.download, url)


# Published checkpoints ---------------------------------------------------------------------------


@pytest.fixture
def hub(server, tmp_path, monkeypatch):
    """Let the server also be the Hugging Face hub."""
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, 'ENDPOINT', server.url)
    template = server.url + '/{repo_id}/resolve/{revision}/{filename}'
    monkeypatch.setattr(constants, 'HUGGINGFACE_CO_URL_TEMPLATE', template)
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'hf'))
    return server


@pytest.fixture
def listed(server, monkeypatch):
    """Serve a published checkpoint, called ``coat_nano``."""
    weights = {'serial_blocks1.0.norm1.weight': torch.ones(4), 'head.bias': torch.zeros(10)}
    _, sha256 = server.add('/coat_nano.pth', dict(model=weights))
    url = f'{server.url}/coat_nano.pth'
    entry = published.Published(
        url, 'coat_nano', 224, 0.875, {'top-1': 50.0}, sha256[:8], 'timm/coat_nano.in1k'
    )
    monkeypatch.setitem(PUBLISHED, 'coat_nano', entry)
    server.files['/timm/coat_nano.in1k/resolve/main/model.safetensors'] = safetensors.torch.save(
        {name: value + 1 for name, value in weights.items()}
    )
    return entry


def test_a_name_is_downloaded_checked_and_converted(hub, listed, cache):
    loaded = CheckpointLoader.load_checkpoint('mmvitx://coat_nano', 'cpu')
    assert list(loaded['state_dict']) == ['backbone.serial_blocks.0.0.norm1.weight', 'head.fc.bias']
    assert hub.asked == ['/coat_nano.pth']
    assert kept(cache) == ['coat_nano.pth']
    assert 'model' in torch.load(cache / 'coat_nano.pth')  # as it came: nothing converted is kept


@pytest.mark.parametrize('spoil', ['gone', 'other bytes', 'cut'])
def test_timms_copy_is_the_second_source(hub, listed, cache, spoil):
    if spoil == 'gone':
        del hub.files['/coat_nano.pth']
    elif spoil == 'other bytes':
        hub.files['/coat_nano.pth'] += b'.'
    else:
        hub.cut.add('/coat_nano.pth')
    for _ in range(2):
        loaded = CheckpointLoader.load_checkpoint('mmvitx://coat_nano', 'cpu')
        assert loaded['state_dict']['head.fc.bias'].tolist() == [1.0] * 10
    files = [path for path in hub.asked if not path.startswith('/api/')]
    assert len(files) == 2  # of the authors, of timm, and then the cache
    assert kept(cache) == []


def test_without_any_source_the_error_says_what_to_do(hub, listed, cache):
    hub.files.clear()
    message = failure(CheckpointLoader.load_checkpoint, 'mmvitx://coat_nano', 'cpu')
    for part in (listed.url, listed.sha256, 'HTTP Error 404', f'put it into {cache}', listed.hub):
        assert part in message


def test_a_detector_has_no_second_source(hub, listed, monkeypatch):
    monkeypatch.setitem(PUBLISHED, 'coat_nano', listed._replace(hub=None))
    hub.files.clear()
    message = failure(CheckpointLoader.load_checkpoint, 'mmvitx://coat_nano', 'cpu')
    assert 'HTTP Error 404' in message and 'hub' not in message.replace('torch/hub', '')


def test_a_wrong_name_gets_a_hint():
    message = failure(CheckpointLoader.load_checkpoint, 'mmvitx://coat_smal', 'cpu')
    assert "'coat_smal': did you mean coat_small?" in message
    message = failure(CheckpointLoader.load_checkpoint, 'mmvitx://cait_xs24', 'cpu')
    assert 'did you mean cait_xs24_384?' in message


def test_names_and_hashes_are_consistent():
    for name, entry in PUBLISHED.items():
        assert entry.arch in name
        assert entry.url.endswith('.pth')
        if entry.sha256:
            assert entry.url.endswith(f'_{entry.sha256}.pth')
            assert download.known_hash(entry.url) == entry.sha256
        assert (entry.size is None) == ('box AP' in entry.metrics) == (entry.hub is None)
    urls = [entry.url for entry in PUBLISHED.values()]
    assert len(urls) == len(set(urls)) == 8 + 12 + 11 + 10
    json.dumps({name: entry._asdict() for name, entry in PUBLISHED.items()})
