# CoaT Small for dense tasks: the backbone with its ImageNet weights, and its widths for the neck or
# the heads.
backbone = dict(
    _delete_=True,
    type='mmvitx.CoaT',
    arch='small',
    drop_path_rate=0.2,
    init_cfg=dict(type='Pretrained', checkpoint='mmvitx://coat_small'),
)
neck = dict(in_channels=[152, 320, 320, 320])
