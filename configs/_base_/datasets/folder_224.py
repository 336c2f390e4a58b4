# Images of one's own: data/images/train/<class>/*.jpg and data/images/val/<class>/*.jpg.
data_preprocessor = dict(
    mean=[123.675, 116.28, 103.53],  # ImageNet's, as in the pretraining
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=224, backend='pillow', interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=256, backend='pillow', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=224),
    dict(type='PackInputs'),
]
dataset = dict(type='CustomDataset', data_root='data/images')
train_dataloader = dict(
    batch_size=64,
    num_workers=4,
    dataset=dict(data_prefix='train', pipeline=train_pipeline, **dataset),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = test_dataloader = dict(
    batch_size=64,
    num_workers=4,
    dataset=dict(data_prefix='val', test_mode=True, pipeline=test_pipeline, **dataset),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = test_evaluator = dict(type='Accuracy', topk=(1,))
