"""Time in turn, and the peak of live tensors to the byte."""

from __future__ import annotations

import measure
import pytest
import torch

from mmvitx.models.layers.linear import available_libraries

KIB = 1024


def floats(kib):
    return torch.empty(kib * KIB // 4)


def test_memory_is_the_peak_of_what_lives():
    def run():
        a = floats(400)
        b = floats(100)
        del a
        c = floats(300)  # with b: as much as a and b
        return b, c

    assert measure.peak_memory(run, 'cpu') == 500 * KIB


def test_memory_of_a_training_step_holds_activations_and_gradients():
    x = floats(64).zero_().requires_grad_()
    kept = []

    def run():
        x.exp().sum().backward()  # keeps the exponential; the gradient becomes another
        kept.append(x.grad)
        x.grad = None

    peak = measure.peak_memory(run, 'cpu')
    assert 128 * KIB <= peak <= 128 * KIB + 64


def test_memory_of_what_an_operator_of_its_own_needs_meanwhile():
    @torch.library.custom_op('mmvitx_test::scratch', mutates_args=())
    def scratch(x: torch.Tensor) -> torch.Tensor:
        buffer = floats(700)
        return x + buffer.numel()

    x = torch.zeros(256)
    peak = measure.peak_memory(lambda: scratch(x), 'cpu')
    assert 700 * KIB <= peak <= 701 * KIB + 64


def test_no_event_of_many_is_lost():
    def run():
        blocks = [floats(1) for _ in range(20000)]
        del blocks
        return floats(1)

    assert measure.peak_memory(run, 'cpu') == 20000 * KIB


def test_is_silent_about_a_missing_gpu(capfd):
    measure.peak_memory(lambda: floats(1), 'cpu')
    assert capfd.readouterr() == ('', '')


def test_turns_alternate():
    order = []

    def timer(name, seconds):
        def run():
            order.append(name)
            return seconds

        return run

    turns = measure.take_turns([timer('a', 1.0), timer('b', 2.0)], 3)
    assert list(turns) == [[1.0, 2.0]] * 3
    assert ''.join(order) == 'abbaab'


def test_time_is_that_of_one_call():
    calls = []
    seconds = measure.measure_time(lambda: calls.append(0), 'cpu', calls=5)
    assert len(calls) == 5
    assert seconds > 0


def test_quartiles():
    assert measure.quartiles([5, 1, 4, 2, 3]) == (2, 3, 4)
    assert measure.quartiles([7]) == (7, 7, 7)


def test_the_rate_stops_early_where_a_product_takes_seconds(monkeypatch):
    calls = []
    monkeypatch.setattr(measure, 'measure_time', lambda *_: calls.append(0) or 4.0)
    libraries = available_libraries()
    rates = measure.matmul_rates('cpu', torch.float32)
    assert rates == {library: 1024**3 / 4 for library in libraries}
    assert len(calls) == len(libraries)
    assert measure.matmul_rates('cpu', torch.bfloat16) == {'torch.mm': 1024**3 / 4}


@pytest.mark.parametrize('set_', [False, True])
def test_the_allocator_is_recorded(monkeypatch, set_):
    for name, value in measure.THRESHOLDS.items():
        monkeypatch.setenv(name, value) if set_ else monkeypatch.delenv(name, raising=False)
    environment = measure.describe_environment('mmvitx')
    assert (environment['allocator'].items() >= measure.THRESHOLDS.items()) == set_
    assert {*environment['versions']} == {'torch', 'mmvitx'}
    assert environment['threads'] == torch.get_num_threads()
    assert environment['machine'] and environment['malloc']
