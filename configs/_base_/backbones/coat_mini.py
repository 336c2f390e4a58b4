# CoaT Mini for dense tasks: the backbone with its ImageNet weights, and its widths for the neck or
# the heads.
backbone = dict(
    _delete_=True,
    type='mmvitx.CoaT',
    arch='mini',
    init_cfg=dict(type='Pretrained', checkpoint='mmvitx://coat_mini'),
)
neck = dict(in_channels=[152, 216, 216, 216])
