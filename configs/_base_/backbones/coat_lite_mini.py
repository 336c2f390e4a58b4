# CoaT Lite-Mini in a detector: the backbone, and its widths for the neck.
backbone = dict(_delete_=True, type='mmvitx.CoaT', arch='lite_mini')
neck = dict(in_channels=[64, 128, 320, 512])
