# CoaT's recipe (README and arguments of mlpc-ucsd/CoaT): DeiT's for a batch of 2048 (8 GPUs x 256).
_base_ = ['./deit_300e.py', './ema.py']

lr = 2e-3
optim_wrapper = dict(optimizer=dict(lr=lr))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6 / lr, by_epoch=True, end=5),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=5, end=300),
]
auto_scale_lr = dict(base_batch_size=2048)
