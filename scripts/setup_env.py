"""Sets up the environment in which `make` runs the demonstration and the tests.

Needs nothing but the standard library. Each step may be repeated and keeps what is there already,
so an interrupted set-up goes on where it stopped. What the machine lacks is said before anything
long starts.
"""

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / 'requirements/lock.txt'
PYTHONS = ((3, 11), (3, 12))  # for which all of the lock has builds
MADE_HERE = 'made-by-mmvitx'  # a file in an environment that this script made

ABOUT_PYTHON = """
import json, sys, sysconfig
from importlib.util import find_spec
print(json.dumps(dict(
    version=sys.version_info[:2],
    include=sysconfig.get_path('include'),
    site=sysconfig.get_path('purelib'),
    venv=bool(find_spec('venv') and find_spec('ensurepip')),
)))
"""
ABOUT_TORCH = """
import torch
print(int(torch.cuda.is_available()), torch.version.cuda, torch.__file__, sep='\\n')
"""
# runs an op where it will be needed: a build for another torch, or without CUDA, fails here
USE_OPS = """
import sys, torch, mmcv.ops
boxes = torch.tensor([[0., 0., 8., 8.], [0., 0., 8., 9.]], device=sys.argv[1])
mmcv.ops.nms(boxes, boxes[:, 3].contiguous(), 0.5)
"""
TRIAL = '#include <Python.h>\n#include <vector>\nint main() { return std::vector<int>().size(); }\n'


class SetupError(Exception):
    """What keeps the environment from being set up, in one sentence."""


def say(text: str) -> None:
    print(f'==> {text}', flush=True)


def answer(*command: str) -> str:
    """What a command prints, or '' if it fails or does not exist."""
    try:
        return subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
        ).stdout.decode()
    except (OSError, subprocess.CalledProcessError):
        return ''


def about(python: str) -> dict:
    """Facts on an interpreter, as the one that runs this need not be the one that is used."""
    facts = json.loads(answer(python, '-c', ABOUT_PYTHON) or '{}')
    if facts:
        infos = Path(facts['site']).glob('*.dist-info')
        facts['names'] = [p.name.split('-')[0] for p in infos if (p / 'RECORD').is_file()]
    return facts


# --- what is checked before anything long ---------------------------------------------------------


def check_python(python: str, facts: dict) -> None:
    if tuple(facts['version']) not in PYTHONS:
        raise SetupError(
            f'{python} is Python {".".join(map(str, facts["version"]))}, but the pinned stack has '
            'builds for 3.11 and 3.12: name one of those with PYTHON=<interpreter> '
            '(and another VENV=<path> if that environment exists already).'
        )


def check_venv(venv: Path, there: bool, facts: dict) -> None:
    forks = sorted(name for name in facts['names'] if name.startswith('onedl'))
    if there and forks:
        raise SetupError(
            f'{venv} holds {", ".join(forks)}, which write the same folders as the official '
            'packages that would be installed: name another environment with VENV=<path>.'
        )
    if not there and venv.exists() and any(venv.iterdir()) and not (venv / 'pyvenv.cfg').exists():
        raise SetupError(
            f'{venv} is not empty and no virtual environment: name another VENV=<path>.'
        )
    if not there and not facts['venv']:
        version = '.'.join(map(str, facts['version']))
        raise SetupError(
            f'Python {version} has no venv module: install it (Debian, Ubuntu: apt-get install '
            f'python{version}-venv) or name another interpreter with PYTHON=<path>.'
        )


def check_compiler(facts: dict) -> None:
    compiler = os.environ.get('CXX', 'c++').split()
    if not shutil.which(compiler[0]):
        raise SetupError(
            f"mmcv's ops have to be compiled, but there is no C++ compiler ({compiler[0]}): "
            'install one (Debian, Ubuntu: apt-get install g++) or name it with CXX=<compiler>.'
        )
    header = Path(facts['include'], 'Python.h')
    if not header.is_file():
        version = '.'.join(map(str, facts['version']))
        raise SetupError(
            f"mmcv's ops have to be compiled, but Python's headers are missing ({header}): install "
            f'them (Debian, Ubuntu: apt-get install python{version}-dev).'
        )
    trial = subprocess.run(
        [*compiler, '-std=c++17', '-x', 'c++', '-fsyntax-only', f'-I{header.parent}', '-'],
        input=TRIAL.encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if trial.returncode:
        lines = trial.stdout.decode().strip().splitlines()
        error = next((line for line in lines if 'error' in line), lines[-1] if lines else '')
        raise SetupError(
            f"mmcv's ops have to be compiled, but {compiler[0]} cannot compile C++17 with Python's "
            f'headers ({error}): install another or name it with CXX=<compiler>.'
        )


def check_disk(venv: Path, installed: bool) -> None:
    """Checks for what is written at most, in gigabytes: measured, and a little to spare."""
    cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'pip'
    needs = {
        venv: 1 if installed else 6,
        Path(os.environ.get('PIP_CACHE_DIR') or cache): 0 if installed else 3,
        Path(tempfile.gettempdir()): 1 if installed else 3,
    }
    disks = {}
    for path, need in needs.items():
        path = path.absolute()
        while not path.exists():
            path = path.parent
        total, free = disks.get(path.stat().st_dev, (0, 0))
        disks[path.stat().st_dev] = total + need, shutil.disk_usage(path).free / 1e9
    for need, free in disks.values():
        if free < need:
            places = ', '.join(f'{need} GB in {path}' for path, need in needs.items() if need)
            raise SetupError(
                f'The disk is nearly full, {free:.1f} GB are free and set-up takes up to {need} GB '
                f'there: make room or move a part ({places}; VENV=, PIP_CACHE_DIR=, TMPDIR=).'
            )


# --- NVIDIA GPUs ----------------------------------------------------------------------------------


def gpu_archs() -> str:
    """The compute capabilities at hand, as TORCH_CUDA_ARCH_LIST wants them; '' without a GPU."""
    lines = answer('nvidia-smi', '--query-gpu=compute_cap', '--format=csv,noheader').split()
    return ';'.join(sorted({line for line in lines if re.fullmatch(r'\d+\.\d+', line)}))


def find_cuda() -> tuple:
    """The folder of the CUDA toolkit and its version, or ('', '')."""
    nvcc = shutil.which('nvcc')
    homes = [os.environ.get('CUDA_HOME'), os.environ.get('CUDA_PATH')]
    homes += [Path(nvcc).resolve().parents[1] if nvcc else None, '/usr/local/cuda']
    for home in filter(None, homes):
        if Path(home, 'include/cuda_runtime.h').is_file():
            found = re.search(r'release (\d+\.\d+)', answer(f'{home}/bin/nvcc', '--version'))
            if found:
                return str(home), found[1]
    return '', ''


def plan_ops(python: str, archs: str, cuda: tuple) -> tuple:
    """Where the ops will run, and the variables for their build; says why not on a GPU at hand."""
    if archs:
        facts = answer(python, '-c', ABOUT_TORCH).splitlines()
        available, torch_cuda, torch_file = facts or ('0', 'None', '')
        home, version = cuda
        if not int(available):
            why = f'torch (CUDA {torch_cuda}) cannot use it; its driver may be too old'
        elif not version:
            why = f'there is no CUDA toolkit (nvcc); install CUDA {torch_cuda}'
        elif version.split('.')[0] != torch_cuda.split('.')[0]:
            why = f'nvcc is of CUDA {version} and torch of {torch_cuda}; name another by CUDA_HOME='
        else:
            # a small toolkit lacks headers (cusparse.h) that torch's wheels bring; looked at last
            headers = Path(torch_file).parents[1].glob('nvidia/cu*/include')
            return 'cuda', {
                'FORCE_CUDA': '1',
                'TORCH_CUDA_ARCH_LIST': archs,
                'CUDA_HOME': home,
                'CPLUS_INCLUDE_PATH': os.pathsep.join(map(str, headers)),
            }
        say(
            "There is an NVIDIA GPU, but mmcv's ops are built for the CPU, and all runs there: "
            f'{why}'
        )
    return 'cpu', {'FORCE_CUDA': '0', 'CUDA_VISIBLE_DEVICES': ''}


# --- the steps ------------------------------------------------------------------------------------


def make_venv(venv: Path, python: str) -> None:
    target = str(venv / 'bin/python')
    if not Path(target).exists():
        # pip comes later, so that a set-up interrupted in between finds the mark
        subprocess.run([python, '-m', 'venv', '--clear', '--without-pip', str(venv)], check=True)
        (venv / MADE_HERE).touch()
    if not answer(target, '-m', 'pip', '--version'):  # interrupted, or made without
        ensure = [target, '-m', 'ensurepip', '--default-pip']
        subprocess.run(ensure, stdout=subprocess.DEVNULL, check=True)


def forget_unfinished(venv: Path, site: Path) -> None:
    """Has pip install anew what it was writing when it was interrupted: RECORD comes last.

    Only in an environment that was made here: in others a package without RECORD may be whole, as
    those of conda and of Debian are.
    """
    if not (venv / MADE_HERE).exists():
        return
    for info in site.glob('*.dist-info'):
        if not (info / 'RECORD').is_file():
            shutil.rmtree(info)


def pip_install(python: str, *args: str, **env: str) -> None:
    environ = {'PIP_DISABLE_PIP_VERSION_CHECK': '1', 'PIP_DEFAULT_TIMEOUT': '60', **os.environ}
    command = [python, '-m', 'pip', 'install', '-c', str(LOCK), *args]
    subprocess.run(command, env={**environ, **env}, cwd=str(ROOT), check=True)


def fault_of_ops(python: str, device: str) -> str:
    """The error of running one of mmcv's ops, '' if it works."""
    result = subprocess.run([python, '-c', USE_OPS, device], stderr=subprocess.PIPE, cwd=str(ROOT))
    lines = result.stderr.decode().strip().splitlines()
    return (lines or ['it crashed'])[-1] if result.returncode else ''


def install_ops(python: str, device: str, env: dict) -> None:
    """Installs mmcv, and compiles it anew if what pip has in its cache is for another torch."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    memory = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1e9
    jobs = max(1, min(cores, int(memory / 2)))  # a compiler takes up to 2 GB
    env = {'MAX_JOBS': os.environ.get('MAX_JOBS', str(jobs)), **env}
    minutes = 1 + (14 if device == 'cpu' else 60) // jobs
    about_time = f'about {minutes} min, {jobs} files at a time'
    say(f'Installing mmcv, its ops for the {device} ({about_time}, unless pip has a build of them)')
    pip_install(python, '--no-build-isolation', '-r', 'requirements/mminstall.txt', **env)
    fault = fault_of_ops(python, device)
    if fault:
        say(f"mmcv's ops do not work with this torch ({fault})")
        say(f"Compiling them anew instead of taking pip's cached build ({about_time})")
        anew = ('--no-cache-dir', '--force-reinstall', '--no-deps', '--no-build-isolation')
        pip_install(python, *anew, 'mmcv', **env)
        fault = fault_of_ops(python, device)
    if fault:
        raise SetupError(f'mmcv was compiled, but its ops do not work with this torch: {fault}')


@contextlib.contextmanager
def locked(venv: Path) -> Iterator:
    """Waits while another process sets the environment up."""
    venv.mkdir(parents=True, exist_ok=True)
    folder = os.open(str(venv), os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say(f'Waiting for another process that sets up {venv}')
        fcntl.flock(folder, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(folder)


def check_machine(venv: Path, python: str) -> None:
    """Raises SetupError for what is missing."""
    target = str(venv / 'bin/python')
    there = Path(target).exists()
    facts = about(target if there else python)
    if not facts:
        raise SetupError(f'{target if there else python} does not run.')
    check_python(target if there else python, facts)
    check_venv(venv, there, facts)
    if not (there and 'mmcv' in facts['names'] and not fault_of_ops(target, 'cpu')):
        check_compiler(facts)
    check_disk(venv, installed=there and 'torch' in facts['names'])


def install(venv: Path, python: str, archs: str, cuda: tuple) -> str:
    """Installs everything; returns what a shell must set to use it."""
    make_venv(venv, python)
    target = str(venv / 'bin/python')
    forget_unfinished(venv, Path(about(target)['site']))
    say('Installing torch (about 3 GB to download)')
    pip_install(target, '-r', 'requirements/build.txt')
    device, env = plan_ops(target, archs, cuda)
    install_ops(target, device, env)
    say('Installing MMDetection, MMSegmentation, MMPretrain, the tools and this repository')
    pip_install(target, '--no-build-isolation', '-e', '.[all,dev]')
    return 'export CUDA_VISIBLE_DEVICES=' if archs and device == 'cpu' else ''


def fingerprint(*facts: object) -> str:
    """Changes when the set-up has to run again."""
    digest = hashlib.sha256(repr((str(ROOT), *facts)).encode())
    names = ['setup.py', 'scripts/setup_env.py', 'mmvitx/version.py']
    for path in [ROOT / name for name in names] + sorted(ROOT.glob('requirements/*.txt')):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def main(argv: Optional[list] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('venv', type=Path, help='folder of the virtual environment')
    venv = parser.parse_args(argv).venv.absolute()
    stamp = venv / 'mmvitx.env'  # the fingerprint as a comment, and what a shell must set

    archs, cuda = gpu_archs(), find_cuda()
    mark = f'# {fingerprint(archs, cuda if archs else "")}\n'

    def is_ready() -> bool:
        there = stamp.is_file() and (venv / 'bin/python').exists()
        return there and stamp.read_text().startswith(mark)

    if is_ready():
        return
    begin = time.monotonic()
    check_machine(venv, sys.executable)
    with locked(venv):
        if is_ready():  # by the process that we waited for
            return
        say(f'Setting up {venv} (once; Ctrl-C is safe, the same command then goes on)')
        if stamp.exists():
            stamp.unlink()
        shell = install(venv, sys.executable, archs, cuda)
        stamp.write_text(mark + shell + '\n')
        say(f'{venv} is ready, after {time.monotonic() - begin:.0f} s')


if __name__ == '__main__':
    try:
        main()
    except SetupError as error:
        sys.exit(f'\nset-up: {error}')
    except subprocess.CalledProcessError as error:
        sys.exit(f'\nset-up: `{" ".join(map(str, error.cmd))}` failed; its last lines say why.')
    except KeyboardInterrupt:
        sys.exit('\nset-up: interrupted; the same command goes on where it stopped.')
