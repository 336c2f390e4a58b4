"""What the README and the pages in docs link to, tell to run and claim is there."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import torch
from records import name_work

from mmvitx.checkpoints.published import PUBLISHED

ROOT = Path(__file__).parents[1]
README = (ROOT / 'README.md').read_text()
PAGES = [ROOT / 'README.md', *(ROOT / 'docs').glob('*.md')]
SCRIPT = r'\b(tools|benchmarks)/(.*)\.py$'
PLACES = ('configs/', 'tests/', 'tools/', 'benchmarks/')


def find_commands(page: Path) -> list[str]:
    """Find the blocks of commands in a page, and the commands within its sentences."""
    text = page.read_text()
    prose = re.sub(r'```.*?```', '', text, flags=re.S)
    quoted = [' '.join(code.split()) for code in re.findall(r'`([^`]+)`', prose)]
    begin = r'(\w+=\S+ )*(python|make|pip|tools/\S+) '
    blocks = re.findall(r'```bash\n(.*?)```', text, re.S)
    return blocks + [code for code in quoted if re.match(begin, code)]


COMMANDS = {
    f'{page.name}-{i}': text for page in PAGES for i, text in enumerate(find_commands(page))
}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_what_is_linked_exists(page):
    links = re.findall(r'\]\((?!https?:)([^)]+)\)', page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


# Runs the script behind the options, as Slurm does in a job.
SBATCH = '#!/bin/sh\nwhile [ "${1#-}" != "$1" ]; do shift; done\nexec bash "$@"\n'


@pytest.fixture
def stubs(tmp_path) -> dict[str, str]:
    """The variables with which a shell runs stubs that print their name and their arguments."""
    for name in ('python', 'srun', 'make', 'pip'):
        path = tmp_path / name
        path.write_text('#!/bin/sh\nprintf "%s" "${0##*/}"; printf "\\t%s" "$@"; echo\n')
        path.chmod(0o755)
    (tmp_path / 'sbatch').write_text(SBATCH)
    (tmp_path / 'sbatch').chmod(0o755)
    return {**os.environ, 'PATH': f'{tmp_path}:{os.environ["PATH"]}', 'PYTHON': 'python'}


@pytest.mark.parametrize('name', COMMANDS)
def test_commands_are_understood(name, stubs, tool, monkeypatch):
    """Each runs up to the tool, whose parser takes what arrives; the files that it names exist."""
    script = ['bash', '-euc', COMMANDS[name]]
    done = subprocess.run(script, cwd=ROOT, env=stubs, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and not done.stderr, done.stderr
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    for line in done.stdout.splitlines():
        program, *words = line.split('\t')
        if program == 'make':
            assert re.search(rf'^{words[0]}:', (ROOT / 'Makefile').read_text(), re.M)
        elif program != 'pip':
            at = next(i for i, word in enumerate(words) if re.search(SCRIPT, word))
            folder, name = re.search(SCRIPT, words[at]).groups()
            tool(name, folder).parse_args(words[at + 1 :])
        files = [word for word in words if word.startswith(PLACES)]
        assert [file for file in files if not (ROOT / file).is_file()] == []
        assert {*re.findall(r'mmvitx://(\w+)', line)} <= PUBLISHED.keys()


@pytest.mark.parametrize('row', re.findall(r'^\| `(\w+)` \| `1x`', README, re.M))
def test_the_configs_of_the_table_exist_with_its_figures(row):
    cells = re.search(
        rf'^\| `{row}` \| `1x` / `3x` \| (.*) / (.*) \| (.*) / (.*) \|$', README, re.M
    )
    box_1x, box_3x, mask_1x, mask_3x = cells.groups()
    metafile = (ROOT / 'configs/metafile.yml').read_text()
    for schedule, box, mask in (('1x', box_1x, mask_1x), ('3x', box_3x, mask_3x)):
        name = f'{row}_{schedule}_coco'
        comment = (ROOT / f'configs/{name}.py').read_text().splitlines()[0]
        assert comment.startswith(f'# COCO val2017: box AP {box}, mask AP {mask} by the authors')
        entry = metafile.split(f'Name: {name}\n')[1].split('- Name:')[0]
        assert f'box AP: {box}\n' in entry
        assert f'mask AP: {mask}\n' in entry
        assert f'Weights: {PUBLISHED[name].url}\n' in entry
        assert PUBLISHED[name].metrics == {'box AP': float(box), 'mask AP': float(mask)}


def test_all_published_weights_are_listed_with_their_figures():
    page = (ROOT / 'docs/weights.md').read_text()
    rows = [
        [cell.removesuffix(' (by timm) ').strip(' `') for cell in row.split('|')[1:-1]]
        for row in re.findall(r'^\| `\w+` \|.*$', page, re.M)
    ]
    assert len(rows) == len(PUBLISHED)
    for name, *numbers in rows:
        entry = PUBLISHED[name]
        expected = [entry.size, entry.crop] if entry.size else []
        assert [float(n) for n in numbers] == [*expected, *entry.metrics.values()]
        assert (
            f'`{name}`' in README
            or name.removesuffix('_1x_coco').removesuffix('_3x_coco') in README
        )


def test_the_table_of_speed_has_the_measured_figures():
    measured = {}
    for form in 'eager', 'compiled':
        path = ROOT / f'docs/benchmarks/suite_cpu_float32_{form}.json'
        for record in json.loads(path.read_text()):
            figures = (f'{record[name]:.2f}' for name in ('time_ratio', 'memory_ratio'))
            measured.setdefault(name_work(record), []).extend(figures)
    section = README.split('## Speed and memory')[1].split('## ')[0]
    rows = re.findall(r'^\| (\w+ .*\dx\d.*) \|$', section, re.M)
    assert {name: figures for name, *figures in (row.split(' | ') for row in rows)} == measured
