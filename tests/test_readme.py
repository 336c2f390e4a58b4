"""What the README and the pages in docs link to, tell to run and claim is there."""

import json
import re
import shlex
from pathlib import Path

import pytest
from records import name_work

from mmvitx.checkpoints.published import PUBLISHED

ROOT = Path(__file__).parents[1]
README = (ROOT / 'README.md').read_text()
PAGES = [ROOT / 'README.md', *(ROOT / 'docs').glob('*.md')]
COMMANDS = [
    line.split('#')[0].strip()
    for page in PAGES
    for block in re.findall(r'```bash\n(.*?)```', page.read_text(), re.S)
    for line in block.splitlines()
]


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_what_is_linked_exists(page):
    links = re.findall(r'\]\((?!https?:)([^)]+)\)', page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize('command', COMMANDS)
def test_what_a_command_names_exists(command):
    words = shlex.split(command)
    if words[0] == 'make':
        assert re.search(rf'^{words[1]}:', (ROOT / 'Makefile').read_text(), re.M)
    files = [word for word in words if word.startswith(('configs/', 'tools/', 'benchmarks/'))]
    assert all((ROOT / file).is_file() for file in files)
    for name in re.findall(r'mmvitx://(\w+)', command):
        assert name in PUBLISHED


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
