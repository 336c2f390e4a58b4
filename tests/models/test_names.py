import pytest

from mmvitx.errors import UserError
from mmvitx.models import backbones
from mmvitx.models.names import FAMILIES, find_model


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('coat_small', (backbones.CoaT, 'small', 224)),
        ('coat_lite_medium_384', (backbones.CoaT, 'lite_medium', 384)),
        ('crossvit_15_dagger', (backbones.CrossViT, '15_dagger', 240)),
        ('crossvit_15_dagger_384', (backbones.CrossViT, '15_dagger', 408)),
        ('cait_m48_448', (backbones.CaiT, 'm48', 448)),
    ],
)
def test_a_name_means_family_architecture_and_size(name, expected):
    assert find_model(name) == expected


def test_every_architecture_has_a_name():
    for prefix, family in FAMILIES.items():
        for arch in family.archs:
            assert find_model(prefix + arch)[:2] == (family, arch)


@pytest.mark.parametrize('name', ['coat_', 'small', 'coat_s24', 'mask_rcnn_coat_small_1x_coco'])
def test_another_name_is_refused(name):
    with pytest.raises(UserError, match='no model is called .* expected one of coat_'):
        find_model(name)
