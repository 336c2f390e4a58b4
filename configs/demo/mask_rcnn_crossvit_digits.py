# The demonstration with a small CrossViT whose branches have strides of 8 and 16.
_base_ = './mask_rcnn_coat_lite_tiny_digits.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmvitx.CrossViT',
        arch=dict(
            embed_dims=(96, 192),
            depths=(1, 2, 0),
            num_heads=(3, 6),
            mlp_ratios=(4, 4),
            patch_sizes=(8, 16),
        ),
        view_scales=(1.0, 1.0),
        img_size=160,
    ),
    neck=dict(in_channels=[96, 96, 192, 192]),
)
