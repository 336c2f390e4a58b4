# CaiT XXS-24 in a detector: the backbone, and its widths for the neck.
backbone = dict(_delete_=True, type='mmvitx.CaiT', arch='xxs24', drop_path_rate=0.05)
neck = dict(in_channels=[192, 192, 192, 192])
