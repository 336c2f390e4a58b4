# CoaT Mini for dense tasks: the backbone, and its widths for the neck or the heads.
backbone = dict(_delete_=True, type='mmvitx.CoaT', arch='mini')
neck = dict(in_channels=[152, 216, 216, 216])
