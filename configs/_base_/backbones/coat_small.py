# CoaT Small for dense tasks: the backbone, and its widths for the neck or the heads.
backbone = dict(_delete_=True, type='mmvitx.CoaT', arch='small', drop_path_rate=0.2)
neck = dict(in_channels=[152, 320, 320, 320])
