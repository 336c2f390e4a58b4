# CrossViT-18 for dense tasks: the backbone with its ImageNet weights, and its widths for the neck
# or the heads.
backbone = dict(
    _delete_=True,
    type='mmvitx.CrossViT',
    arch='18',
    drop_path_rate=0.1,
    init_cfg=dict(type='Pretrained', checkpoint='mmvitx://crossvit_18'),
)
neck = dict(in_channels=[224, 224, 448, 448])
