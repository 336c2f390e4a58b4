# CaiT S-24 for dense tasks: the backbone with its ImageNet weights, and its widths for the neck or
# the heads.
backbone = dict(
    _delete_=True,
    type='mmvitx.CaiT',
    arch='s24',
    drop_path_rate=0.1,
    init_cfg=dict(type='Pretrained', checkpoint='mmvitx://cait_s24'),
)
neck = dict(in_channels=[384, 384, 384, 384])
