# The recipe of CoaT Small and CoaT-Lite Medium (mlpc-ucsd/CoaT): DeiT's for a batch of 1024 (8 GPUs
# x 128), with 20 epochs of warm-up, gradients clipped at 5, and no moving average.
_base_ = './deit_300e.py'

optim_wrapper = dict(clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, end=20),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=20, end=300),
]
