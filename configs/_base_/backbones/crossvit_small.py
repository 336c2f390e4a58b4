# CrossViT-S for dense tasks: the backbone with its ImageNet weights, and its widths for the neck or
# the heads.
backbone = dict(
    _delete_=True,
    type='mmvitx.CrossViT',
    arch='small',
    drop_path_rate=0.1,
    init_cfg=dict(type='Pretrained', checkpoint='mmvitx://crossvit_small'),
)
neck = dict(in_channels=[192, 192, 384, 384])
