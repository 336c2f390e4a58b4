# CrossViT-18 in a detector: the backbone, and its widths for the neck.
backbone = dict(_delete_=True, type='mmvitx.CrossViT', arch='18', drop_path_rate=0.1)
neck = dict(in_channels=[224, 224, 448, 448])
