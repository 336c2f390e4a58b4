# The demonstration with a small CaiT.
_base_ = './mask_rcnn_coat_lite_tiny_digits.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmvitx.CaiT',
        arch=dict(embed_dim=192, depth=8, num_heads=4),
        img_size=160,
    ),
    neck=dict(in_channels=[192] * 4),
)
