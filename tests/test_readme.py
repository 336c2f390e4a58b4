"""What the README links to and tells to run is there."""

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / 'README.md').read_text()
COMMANDS = [
    line.split('#')[0].strip()
    for block in re.findall(r'```bash\n(.*?)```', README, re.S)
    for line in block.splitlines()
]


def test_what_is_linked_exists():
    links = re.findall(r'\]\((?!https?:)([^)]+)\)', README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize('command', COMMANDS)
def test_what_a_command_names_exists(command):
    words = shlex.split(command)
    if words[0] == 'make':
        assert re.search(rf'^{words[1]}:', (ROOT / 'Makefile').read_text(), re.M)
    files = [word for word in words if word.startswith(('configs/', 'tools/'))]
    assert all((ROOT / file).is_file() for file in files)


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
