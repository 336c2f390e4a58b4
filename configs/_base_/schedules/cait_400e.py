# CaiT's recipe (arXiv 2103.17239): DeiT's over 400 epochs.
_base_ = ['./deit_300e.py', './ema.py']

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, end=5),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=5, end=400),
]
train_cfg = dict(max_epochs=400)
