# CoaT-Lite Tiny classifies single handwritten digits: minutes on two CPU cores, from scratch.
# `make demo-pretrain` makes the data, trains, tests, and starts the Mask R-CNN of the other
# demonstration from it; by hand: python tools/make_digits.py classification first.
_base_ = ['mmpretrain::_base_/default_runtime.py', '../_base_/default_runtime.py']

model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmvitx.CoaT', arch='lite_tiny', out_type='cls_token'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=320, topk=(1, 5)),
)
data_preprocessor = dict(
    num_classes=10, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True
)
pipeline = [  # without flips: a mirrored digit is none
    dict(type='LoadImageFromFile'),
    dict(type='PackInputs'),
]
dataset = dict(type='CustomDataset', data_root='data/single_digits', pipeline=pipeline)
train_dataloader = dict(
    batch_size=32,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler'),
    dataset=dict(data_prefix='train', **dataset),
)
val_dataloader = dict(
    batch_size=50,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(data_prefix='val', test_mode=True, **dataset),
)
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(type='Accuracy', topk=(1, 5))

max_iters = 800
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=200)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=30),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=30, end=max_iters, eta_min=0),
]
default_hooks = dict(
    logger=dict(interval=20, log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=200, max_keep_ckpts=2),
)
log_processor = dict(by_epoch=False)
randomness = dict(seed=0)
