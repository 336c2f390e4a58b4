"""A map puts out channels first, and so its gradient comes in: no operator is to meet that."""

import copy

import pytest
import torch
from families import SMALL
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mmvitx.models.layers import linear as linear_module
from mmvitx.models.layers import mlp
from mmvitx.registry import MODELS

pytestmark = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, '_linear_pointwise'), reason='this PyTorch has no oneDNN'
)


def is_dense(matrix):
    return matrix.is_contiguous() or matrix.mT.is_contiguous()


class DepthwiseGradients(TorchDispatchMode):
    """Keeps whether each depth-wise convolution and its gradient are of one layout."""

    def __init__(self):
        super().__init__()
        self.agree = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.convolution_backward.default and args[9] > 1:  # groups
            grad, x = args[:2]
            self.agree.append((grad.stride(1) == 1) == (x.stride(1) == 1))
        return function(*args, **(kwargs or {}))


@pytest.fixture
def operands(monkeypatch):
    """What oneDNN's linear operator gets."""
    operands, real = [], torch.ops.mkldnn._linear_pointwise

    def record(x, weight, *args):
        operands.extend((x, weight))
        return real(x, weight, *args)

    monkeypatch.setattr(torch.ops.mkldnn, '_linear_pointwise', record)
    monkeypatch.setattr(linear_module, 'choose_library', lambda: 'onednn')
    monkeypatch.setattr(mlp, 'PIECE_BYTES', 8 << 10)  # several pieces
    return operands


@pytest.mark.parametrize('batch', [1, 2])
@pytest.mark.parametrize('name', SMALL)
def test_behind_convolutions_no_operator_is_slowed_down_by_a_layout(name, batch, operands):
    torch.manual_seed(0)
    model = MODELS.build(copy.deepcopy(SMALL[name]))
    heads = [nn.Conv2d(channels, 8, 1) for channels in model.out_channels]
    with DepthwiseGradients() as convs:
        maps = model(torch.randn(batch, 3, 96, 96))
        outs = [head(x) for head, x in zip(heads, maps)]
        torch.autograd.backward(outs, [torch.randn_like(out) for out in outs])
    assert len(operands) > 20 and all(map(is_dense, operands))
    assert all(convs.agree)
    assert bool(convs.agree) == name.startswith('coat')
