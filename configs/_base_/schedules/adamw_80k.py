# As adamw_160k.py in half the iterations, which is XCiT's recipe for Semantic FPN
# (semantic_segmentation/configs/xcit/sem_fpn/ of facebookresearch/xcit).
_base_ = './adamw_160k.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', eta_min=0.0, power=1.0, by_epoch=False, begin=1500, end=80000),
]
train_cfg = dict(max_iters=80000, val_interval=8000)
default_hooks = dict(checkpoint=dict(interval=8000))
