# CoaT Lite-Tiny in a detector: the backbone, and its widths for the neck.
backbone = dict(_delete_=True, type='mmvitx.CoaT', arch='lite_tiny')
neck = dict(in_channels=[64, 128, 256, 320])
