# CaiT XXS-24 for dense tasks: the backbone with its ImageNet weights, and its widths for the neck
# or the heads.
backbone = dict(
    _delete_=True,
    type='mmvitx.CaiT',
    arch='xxs24',
    drop_path_rate=0.05,
    init_cfg=dict(type='Pretrained', checkpoint='mmvitx://cait_xxs24'),
)
neck = dict(in_channels=[192, 192, 192, 192])
