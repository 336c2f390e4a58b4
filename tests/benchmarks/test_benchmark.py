"""The benchmark compares like with like, writes what it says, and loses nothing. Not how fast."""

from __future__ import annotations

import importlib.util
import json
import math
import os
from types import SimpleNamespace

import measure
import pytest
import records
import torch
from records import Form, Row, Work
from torch import nn

from mmvitx.errors import UserError
from mmvitx.models.flops import count
from mmvitx.models.layers.linear import choose_library

needs_timm = pytest.mark.skipif(
    importlib.util.find_spec('timm') is None,
    reason='timm, which models are compared with, is not installed',
)
CPU = ('--arch', 'coat_lite_tiny', '--size', '32')


@pytest.fixture
def benchmark(tool, monkeypatch):
    tool = tool('benchmark', 'benchmarks')
    monkeypatch.setattr(tool, 'MIN_SECONDS', 0)
    monkeypatch.setattr(measure, 'matmul_rates', lambda *_: dict(mkl=5e8, onednn=1e9))
    return tool


def read(path):
    return json.loads(path.read_text())


# What is measured. -------------------------------------------------------------------------------


@needs_timm
def test_the_record_of_a_comparison(benchmark, tmp_path, capsys):
    out = tmp_path / 'new' / 'out.json'
    words = ['--arch', 'coat_lite_tiny', '--size', '32', '--batch', '2', '--mode', 'train']
    benchmark.main([*words, '--peer', 'timm', '--json', str(out)])
    (record,) = read(out)
    expected = dict(arch='coat_lite_tiny', size=32, batch=2, mode='train', dtype='float32')
    expected.update(device='cpu', dense=False, peer='timm', pairs=9, compiled=False)
    assert expected.items() <= record.items()
    assert record['memory_ratio'] == record['memory_bytes'] / record['peer_memory_bytes']
    low, high = record['time_ratio_quartiles']
    assert low <= record['time_ratio'] <= high
    for prefix in '', 'peer_':
        time, gmacs = record[f'{prefix}time_s'], record[f'{prefix}gmacs']
        assert record[f'{prefix}images_per_s'] == 2 / time
        share = record[f'{prefix}share_of_matmul_rate']
        assert share == pytest.approx(gmacs / time)  # of the faster library
        # the gradients alone are as large as the parameters, 5.7 M
        assert record[f'{prefix}memory_bytes'] > 4 * 5e6
    assert record['gmacs'] == pytest.approx(record['peer_gmacs'], rel=0.05)
    assert record['matmul_gmacs_per_s'] == dict(mkl=0.5, onednn=1.0)
    assert record['environment']['linear'] == choose_library()
    assert record['difference'] < 1e-4
    assert {*record['environment']['versions']} == {'torch', 'mmvitx', 'timm'}
    captured = capsys.readouterr()
    assert '| coat_lite_tiny 2x32x32 train | timm |' in captured.out
    assert '9/9' in captured.err
    assert 'Warning' not in captured.err and 'ERROR' not in captured.err


def test_the_record_of_one_model(benchmark, tmp_path):
    out = tmp_path / 'out.json'
    words = [*CPU, '64', '--dense', '--dtype', 'bfloat16', '--pairs', '1', '--json', str(out)]
    benchmark.main(words)
    (record,) = read(out)
    assert (record['size'], record['output'], record['dtype']) == ([32, 64], 'featmap', 'bfloat16')
    assert record['time_ratio'] is record['memory_ratio'] is record['peer'] is None
    assert record['time_s'] > 0 and record['memory_bytes'] > 0


@needs_timm
@pytest.mark.parametrize('mode', ['infer', 'train'])
@pytest.mark.parametrize('dense', [False, True])
@pytest.mark.parametrize(
    ('arch', 'size'), [('coat_tiny', 64), ('cait_xxs24', 64), ('crossvit_9_dagger', 240)]
)
def test_each_family_computes_what_timm_does(benchmark, arch, size, dense, mode):
    row = Row(Work(arch, (size, size), mode=mode, dense=dense), 'timm')
    (ours, theirs), record = benchmark.prepare(row, Form())
    assert record['difference'] < benchmark.TOLERANCE
    assert ours.model.training == theirs.model.training == (mode == 'train')
    assert torch.equal(ours.images, theirs.images)
    assert ours.multiply_adds == pytest.approx(theirs.multiply_adds, rel=0.25)


@pytest.mark.parametrize(('arch', 'dense'), [('coat_tiny', True), ('cait_xxs24', False)])
def test_counts_what_get_flops_counts(benchmark, arch, dense):
    work = Work(arch, (64, 96), mode='train', dense=dense)
    (ours,), _ = benchmark.prepare(Row(work), Form())
    expected = count(arch, work.size, dense)
    # the position embedding is resized, which counts nothing
    assert ours.multiply_adds == expected.run
    assert not any(isinstance(p, torch._subclasses.FakeTensor) for p in ours.model.parameters())


class Scale(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))
        self.function = function

    def forward(self, images):
        return self.function(self.factor * images)


def fail(images):
    raise AssertionError('height must be 7\nand more')


@pytest.mark.parametrize(
    ('function', 'train', 'message'),
    [
        (lambda x: x * 1.001, False, 'differ by .* of their standard deviation'),
        (lambda x: x * math.nan, False, 'two functions'),
        (lambda x: x[..., 1:], False, 'nothing to compare'),
        (lambda x: (x, x), False, 'nothing to compare'),
        (fail, False, r'does not run with images of \(8, 8\): height must be 7$'),
        (lambda x: x * 2 - x.detach(), True, 'gradients .* differ by'),  # same, twice the gradient
        (lambda x: nn.functional.dropout(x, 0.1), True, 'two functions'),
    ],
)
def test_another_function_is_refused(benchmark, function, train, message):
    ours, theirs = Scale(lambda x: x).train(train), Scale(function).train(train)
    image = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert benchmark.compare(ours, ours, image) == 0
    assert ours.factor.grad is None
    with pytest.raises(UserError, match=message):
        benchmark.compare(ours, theirs, image)


def test_the_same_function_written_otherwise_is_not(benchmark):
    image = torch.randn(1, 3, 8, 8)
    ours, theirs = Scale(lambda x: x * 3).train(), Scale(lambda x: x + x + x).train()
    assert 0 <= benchmark.compare(ours, theirs, image) < 1e-6


def test_what_is_not_finite_is_not_measured(benchmark):
    subject = benchmark.Subject(Scale(lambda x: x / 0), Work('some', (8, 8)), compiled=False)
    with pytest.raises(UserError, match='not finite in float32'):
        subject.warm_up()


def test_memory_of_a_step_is_that_of_activations_and_gradients(benchmark):
    work = Work('some', (128, 128), mode='train')
    image = 4 * 3 * 128 * 128
    subject = benchmark.Subject(Scale(torch.exp), work, compiled=False)
    for _ in range(2):  # nothing stays behind that would hide from the next
        # of the size of the images: the exponential, which is kept, and the gradients
        peak = subject.peak_memory()
        assert 3 * image <= peak <= 5 * image + 64
        assert subject.model.factor.grad is None
    subject = benchmark.Subject(Scale(torch.exp), work._replace(mode='infer'), compiled=False)
    assert subject.peak_memory() == 2 * image


def test_what_a_model_keeps_since_it_was_built_counts(benchmark):
    """A resized position embedding is remembered, and is of the memory of every call."""
    model = benchmark.build_ours('cait_xxs24', 'featmap', 32)
    subject = benchmark.Subject(model, Work('cait_xxs24', (64, 64), dense=True), compiled=False)
    first = subject.peak_memory()
    subject.run()
    assert subject.peak_memory() == first


# What the commands do. ---------------------------------------------------------------------------


def test_a_sweep_is_compared_by_pixel(benchmark, tmp_path, monkeypatch):
    for name, value in measure.THRESHOLDS.items():
        monkeypatch.setenv(name, value)
    words = ['--sweep', '--arch', 'coat_lite_tiny', '--sizes', '32', '64', '--mode', 'train']
    benchmark.main([*words, '--out-dir', str(tmp_path), '--json', str(tmp_path / 'a' / 'b.json')])
    path = tmp_path / 'sweep_coat_lite_tiny_train_cpu_float32_eager.json'
    same, larger = read(path)
    assert read(tmp_path / 'a' / 'b.json') == [same, larger]
    assert (same['size'], larger['size'], larger['peer']) == (32, 64, 'itself at 32')
    assert same['memory_ratio'] == 1
    expected = larger['memory_bytes'] / same['memory_bytes'] / 4
    assert larger['memory_ratio'] == pytest.approx(expected)
    assert larger['gmacs'] > 3 * same['gmacs']
    text = (tmp_path / 'table.md').read_text()
    assert 'coat_lite_tiny 1x64x64 train, itself at 32' in text
    assert (tmp_path / records.PLOT).exists()


@pytest.mark.parametrize('arch', ['coat_lite_tiny', 'cait_xxs24', 'crossvit_9'])
def test_one_image_is_compared_with_two(benchmark, arch):
    work = Work(arch, (64, 64), mode='train', dense=True)
    record = benchmark.measure_row(Row(work, records.TWO_IMAGES), Form(), pairs=1)
    assert (record['output'], record['peer']) == ('featmap', 'itself at batch 2')
    assert record['peer_gmacs'] == pytest.approx(2 * record['gmacs'])
    assert record['peer_images_per_s'] == 2 / record['peer_time_s']
    expected = 2 * record['time_s'] / record['peer_time_s']
    assert record['time_ratio'] == pytest.approx(expected)


@pytest.fixture
def suite(benchmark, monkeypatch, tmp_path):
    """Run a suite of four rows and a sweep, whose measurements are made up."""
    rows = [Row(Work('coat_tiny', (s, s)), 'timm', 0.8, 0.7) for s in (32, 64, 96)]
    rows += [Row(Work('cait_s24', (32, 32)), 'timm'), Row(Work('coat_tiny', (64, 64)), 32)]
    monkeypatch.setitem(records.SUITES, 'cpu', rows)
    monkeypatch.setattr(benchmark, 'import_timm', lambda: None)
    path = tmp_path / 'suite_cpu_float32_eager.json'

    def run(*words, **errors):
        measured = []

        def measure_row(row, form, pairs, progress=None):
            measured.append(row.name)
            if error := errors.get(f'{row.work.arch}_{row.work.size[0]}'):
                raise error
            environment = dict(measure.describe_environment('mmvitx'), allocator={})
            figures = dict(time_s=1.0, memory_bytes=1, images_per_s=1.0, share_of_matmul_rate=1.0)
            record = dict(row.describe(), **figures, **form._asdict(), environment=environment)
            ratios = dict(time_ratio=0.5, time_ratio_quartiles=[0.4, 0.6], memory_ratio=0.5)
            return {**record, **ratios}

        def run_process(command, env):
            assert measure.THRESHOLDS.items() <= env.items()
            measured.append(command[2:])
            file = tmp_path / 'sweep_coat_tiny_infer_cpu_float32_eager.json'
            file.write_text('[]')
            return SimpleNamespace(returncode=errors.get('sweep', 0))

        monkeypatch.setattr(benchmark, 'measure_row', measure_row)
        monkeypatch.setattr(benchmark.subprocess, 'run', run_process)
        benchmark.main(['--suite', '--out-dir', str(tmp_path), *words])
        return measured

    run.path = path
    return run


def test_the_suite(suite, benchmark, tmp_path):
    *rows, sweep = suite()
    assert rows == [row.name for row in records.SUITES['cpu'][:-1]]
    args = benchmark.parse_args(sweep)
    assert (args.sweep, args.arch, args.mode, args.pairs) == (True, 'coat_tiny', 'infer', 9)
    assert args.out_dir == tmp_path
    assert [record['size'] for record in read(suite.path)] == [32, 64, 96, 32]
    assert '| coat_tiny 1x32x32 infer | 0.500 (0.400 to 0.600) | 0.8 |' in (
        (tmp_path / 'table.md').read_text()
    )


def test_the_suite_of_one_model_keeps_the_others(suite):
    suite()
    assert suite('--arch', 'cait_s24') == ['cait_s24 1x32x32 infer']
    assert len(read(suite.path)) == 4
    with pytest.raises(UserError, match='no row of crossvit_9'):
        suite('--arch', 'crossvit_9')


def test_a_row_that_fails_costs_no_other(suite, capsys):
    with pytest.raises(UserError, match='not measured: coat_tiny 1x64x64 infer; coat_tiny.*itself'):
        suite(coat_tiny_64=RuntimeError('out of memory\nlong text'), sweep=1)
    assert 'coat_tiny 1x64x64 infer: out of memory\n' in capsys.readouterr().err
    assert [record['size'] for record in read(suite.path)] == [32, 96, 32]


def test_an_interrupted_suite_keeps_what_it_measured(suite, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        suite(coat_tiny_96=KeyboardInterrupt())
    assert [record['size'] for record in read(suite.path)] == [32, 64]
    assert 'coat_tiny 1x64x64 infer | 0.500' in (tmp_path / 'table.md').read_text()


@pytest.mark.slow
@needs_timm
def test_compiled(benchmark, tmp_path):
    out = tmp_path / 'out.json'
    words = [*CPU, '--peer', 'timm', '--compile', '--compile-peer', '--json', str(out)]
    benchmark.main(words)
    (record,) = read(out)
    assert record['compiled'] and record['peer_compiled']
    assert (record['graphs'], record['graph_breaks']) == (1, 0)


# What it refuses. --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        ([], 'name a model with --arch'),
        (['--arch', 'coat_smal'], "no model is called 'coat_smal'"),
        ([*CPU, '--batch', '0'], '--batch must be positive, not 0'),
        ([*CPU, '--size', '1', '2', '3'], '--size takes a side, or height and width'),
        ([*CPU, '--size', '0'], '--size takes a side'),
        ([*CPU, '--peer', 'timm', '--pairs', '3'], '--pairs must be at least 9'),
        ([*CPU, '--compile-peer'], '--compile-peer needs --peer timm'),
        ([*CPU, '--sweep', '--peer', 'timm'], '--sweep is of ours alone'),
        ([*CPU, '--sweep', '--sizes', '-1'], '--sizes must be positive'),
        (
            ['--arch', 'cait_xxs24', '--size', '33'],
            'cait_xxs24 cannot be built for .* 33 px',
        ),
    ],
)
def test_bad_input_is_one_sentence(benchmark, words, message):
    with pytest.raises(UserError, match=message) as error:
        benchmark.main(words)
    assert '\n' not in str(error.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_without_a_gpu(benchmark):
    with pytest.raises(UserError, match='torch sees no GPU'):
        benchmark.main([*CPU, '--device', 'cuda'])


@pytest.mark.parametrize(
    'words', [[*CPU, '--json', 'FOLDER'], [*CPU, '--json', 'file/a.json'], ['--suite']]
)
def test_what_cannot_be_written_is_said_before_the_work(benchmark, words, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, 'run_rows', lambda *_: pytest.fail('it measured'))
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'FOLDER').mkdir()
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match='is a folder|cannot be written'):
        benchmark.main([*words, '--out-dir', 'file/results'])
    assert {*os.listdir(tmp_path)} == {'FOLDER', 'file'}


def test_foreign_json_among_the_records_is_said_before_the_work(benchmark, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, 'run_rows', lambda *_: pytest.fail('it measured'))
    (tmp_path / 'package.json').write_text('{"name": "x"}')
    with pytest.raises(UserError, match=r'package\.json holds no records'):
        benchmark.main(['--sweep', '--out-dir', str(tmp_path)])


@pytest.mark.parametrize('words', [[*CPU, '--peer', 'timm'], ['--suite', '--out-dir', '.']])
def test_without_timm(benchmark, words, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(__import__('sys').modules, 'timm', None)
    with pytest.raises(UserError, match='pip install timm'):
        benchmark.main(words)


@needs_timm
@pytest.mark.parametrize(
    ('arch', 'size', 'message'),
    [
        ('crossvit_9', (96, 96), "timm's crossvit_9_240 for 96 is another model"),
        ('cait_xxs24', (64, 96), "timm's cait_xxs24_224 for .* is another model"),
        ('coat_tiny', (100, 100), 'nothing to compare|differ|does not run'),
    ],
)
def test_sizes_that_timm_lacks(benchmark, arch, size, message):
    with pytest.raises(UserError, match=message) as error:
        benchmark.prepare(Row(Work(arch, size), 'timm'), Form())
    assert '\n' not in str(error.value)
