# CoaT Mini in a detector: the backbone, and its widths for the neck.
backbone = dict(_delete_=True, type='mmvitx.CoaT', arch='mini')
neck = dict(in_channels=[152, 216, 216, 216])
