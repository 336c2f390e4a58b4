"""The demo is nothing but the tools, in the right order."""

import subprocess

import pytest


@pytest.fixture
def demo(tool):
    return tool('demo', 'scripts')


@pytest.fixture
def commands(demo, tmp_path, monkeypatch):
    """The commands that the demo runs; training leaves what mmengine would."""
    commands = []

    def run(command, cwd, check):
        assert cwd == tmp_path and check
        commands.append(command[1:])
        if command[1] == 'tools/train.py':
            work_dir = tmp_path / command[command.index('--work-dir') + 1]
            work_dir.mkdir(parents=True, exist_ok=True)
            (work_dir / 'last_checkpoint').write_text('/where/it/was/trained/iter_600.pth')

    monkeypatch.setattr(demo, 'ROOT', tmp_path)
    monkeypatch.setattr(subprocess, 'run', run)
    return commands


def test_steps(demo, commands, capsys):
    demo.main(['configs/demo/any.py'])
    work, pictures = 'work_dirs/any', 'work_dirs/any/pictures'
    assert commands == [
        ['tools/make_digits.py'],
        ['tools/train.py', 'configs/demo/any.py', '--work-dir', work],
        ['tools/test.py', 'configs/demo/any.py', f'{work}/iter_600.pth']
        + ['--work-dir', work, '--show-dir', pictures],
        ['tools/report.py', work, '--show-dir', pictures],
    ]
    printed = capsys.readouterr().out
    assert all(' '.join(command) in printed for command in commands)


def test_second_start_goes_on(demo, commands, capsys):
    demo.main(['configs/demo/any.py'])
    assert 'remove that folder' not in capsys.readouterr().out
    demo.main(['configs/demo/any.py'])
    assert commands[5][-1] == '--resume'
    assert 'remove that folder' in capsys.readouterr().out


def test_pretraining_is_compared(demo, commands):
    demo.main(['configs/demo/any.py', '--pretrain', 'configs/demo/first.py'])
    first, work = 'work_dirs/first', 'work_dirs/any'
    tools = [command[0].removeprefix('tools/').removesuffix('.py') for command in commands]
    assert tools == ['make_digits', 'train', 'test', 'make_digits', 'train', 'train', 'report']
    assert commands[0][1:] == ['classification']
    assert commands[1][1:] == ['configs/demo/first.py', '--work-dir', first]
    scratch, pretrained = commands[4], commands[5]
    assert scratch[:4] == ['tools/train.py', 'configs/demo/any.py', '--work-dir', f'{work}_scratch']
    assert pretrained[3] == f'{work}_pretrained'
    assert pretrained[4:] == [
        *scratch[4:],
        f'model.backbone.init_cfg.checkpoint={first}/iter_600.pth',
    ]
    assert commands[6][1:] == [f'{work}_scratch', f'{work}_pretrained']
