# CaiT XXS-24 for dense tasks: the backbone, and its widths for the neck or the heads.
backbone = dict(_delete_=True, type='mmvitx.CaiT', arch='xxs24', drop_path_rate=0.05)
neck = dict(in_channels=[192, 192, 192, 192])
