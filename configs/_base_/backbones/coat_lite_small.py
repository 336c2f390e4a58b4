# CoaT Lite-Small for dense tasks: the backbone with its ImageNet weights, and its widths for the
# neck or the heads.
backbone = dict(
    _delete_=True,
    type='mmvitx.CoaT',
    arch='lite_small',
    init_cfg=dict(type='Pretrained', checkpoint='mmvitx://coat_lite_small'),
)
neck = dict(in_channels=[64, 128, 320, 512])
