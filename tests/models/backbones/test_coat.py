import pytest
import torch

from mmvitx.models import CoaT

# arch -> parameters of the published classifier with its 1000-class head, in millions
# (arXiv 2104.06399 and the authors' README)
PARAMS = dict(
    lite_tiny=5.7, lite_mini=11, lite_small=20, lite_medium=45, tiny=5.5, mini=10, small=22
)


@pytest.mark.parametrize('arch', PARAMS)
def test_parameters_are_those_of_the_paper(arch):
    model = CoaT(arch, out_type='cls_token')
    count = sum(p.numel() for p in model.parameters()) + 1000 * (model.out_channels[0] + 1)
    assert count / 1e6 == pytest.approx(PARAMS[arch], rel=0.04)


def test_the_encodings_are_held_once():
    model = CoaT('tiny')
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    assert len(names) == len(dict(model.named_parameters()))
    assert all(name.split('.')[0] in ('cpes', 'crpes') for name in names if 'cpe' in name)


def test_a_custom_window_and_number_of_heads():
    arch = dict(
        embed_dims=(8, 12, 16, 20),
        serial_depths=(1, 1, 1, 1),
        parallel_depth=0,
        mlp_ratios=(2, 2, 2, 2),
        num_heads=4,
        crpe_window={'3': 1, 9: 3},  # JSON knows no numbers as keys
    )
    assert [m.shape[1] for m in CoaT(arch)(torch.randn(1, 3, 40, 40))] == [8, 12, 16, 20]


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(num_heads=7), r'num_heads=7 must divide every width in embed_dims='),
        (dict(embed_dims=(8, 8, 8)), r'need 4 numbers each'),
        (dict(serial_depths=(0, 1, 1, 1)), r'serial_depths must be at least 1'),
        (dict(embed_dims=(8, 8, 16, 8)), r'Parallel blocks need equal widths'),
        (dict(crpe_window={3: 2}), r'crpe_window must give odd kernel sizes to all 8 heads'),
        (dict(crpe_window={4: 8}), r'crpe_window must give odd kernel sizes'),
        (dict(crpe_window={3: 10, 5: -2}), r'crpe_window must give odd kernel sizes'),
    ],
)
def test_numbers_that_do_not_fit(change, message):
    arch = {**CoaT.archs['tiny'], **change}
    with pytest.raises(ValueError, match=message):
        CoaT(arch)


def test_frozen_encodings_shared_with_parallel_blocks_stay_frozen():
    model = CoaT('tiny', frozen_stages=3)
    assert not any(p.requires_grad for p in model.cpes[2].parameters())
    assert all(p.requires_grad for p in model.parallel_blocks.parameters())
    assert all(p.requires_grad for p in model.cpes[3].parameters())
