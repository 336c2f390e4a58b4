# Semantic FPN with CoaT-Lite Tiny, from scratch on handwritten digits: minutes on two CPU cores.
# `make demo-seg` makes the data, trains, tests and shows; by hand, python tools/make_digits.py is
# first.
_base_ = [
    '../_base_/models/semantic_fpn.py',
    'mmseg::_base_/default_runtime.py',
    '../_base_/default_runtime.py',
]

# As small as the task is: the head would take longer than the backbone otherwise.
width = 64
model = dict(
    data_preprocessor=dict(size=(160, 160)),
    backbone=dict(_delete_=True, type='mmvitx.CoaT', arch='lite_tiny'),
    neck=dict(in_channels=[64, 128, 256, 320], out_channels=width),
    decode_head=dict(
        in_channels=[width] * 4,
        channels=width,
        num_classes=11,
        dropout_ratio=0.0,
        # as in the paper of Semantic FPN (arXiv 1901.02446); batches are small, and on a CPU there
        # is no SyncBN
        norm_cfg=dict(_delete_=True, type='GN', num_groups=8),
        # 87% of the pixels are ground, which is learnt at once. (mmseg 1.2.2 fails on ignored
        # labels where classes have weights; the digits have none, and nothing is padded.)
        loss_decode=dict(class_weight=[0.2] + [1.0] * 10),
    ),
    test_cfg=dict(crop_size=(160, 160), stride=(107, 107)),
)

train_pipeline = test_pipeline = [  # without flips: a mirrored digit is none
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
dataset = dict(
    type='BaseSegDataset',
    data_root='data/digits/',
    img_suffix='.png',
    metainfo=dict(
        classes=('ground', *'0123456789'),
        palette=[
            *([0, 0, 0], [230, 25, 75], [60, 180, 75], [255, 225, 25], [0, 130, 200]),
            *([245, 130, 48], [145, 30, 180], [70, 240, 240], [240, 50, 230], [210, 245, 60]),
            [250, 190, 190],
        ],
    ),
)
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler'),
    dataset=dict(
        data_prefix=dict(img_path='train', seg_map_path='semantic/train'),
        pipeline=train_pipeline,
        **dataset,
    ),
)
val_dataloader = dict(
    batch_size=10,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        data_prefix=dict(img_path='val', seg_map_path='semantic/val'),
        pipeline=test_pipeline,
        test_mode=True,
        **dataset,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator

max_iters = 800
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=100)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),  # 6e-5 is for pretrained backbones
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=50),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=50, end=max_iters, eta_min=0),
]
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=20, log_metric_by_epoch=False),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=100, max_keep_ckpts=2),
)
randomness = dict(seed=0)
visualizer = dict(alpha=0.6)
