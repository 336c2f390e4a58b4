# CrossViT-S for dense tasks: the backbone, and its widths for the neck or the heads.
backbone = dict(_delete_=True, type='mmvitx.CrossViT', arch='small', drop_path_rate=0.1)
neck = dict(in_channels=[192, 192, 384, 384])
