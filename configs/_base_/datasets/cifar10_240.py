# CIFAR-10 at the 240 pixels of CrossViT; the host downloads it into data/cifar10.
data_preprocessor = dict(
    num_classes=10,
    mean=[123.675, 116.28, 103.53],  # ImageNet's, as in the pretraining
    std=[58.395, 57.12, 57.375],
    to_rgb=False,  # the host's CIFAR is read as RGB
)
train_pipeline = [
    dict(type='RandomResizedCrop', scale=240, backend='pillow', interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='ResizeEdge', scale=274, backend='pillow', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=240),
    dict(type='PackInputs'),
]
dataset = dict(type='CIFAR10', data_root='data/cifar10')
train_dataloader = dict(
    batch_size=96,
    num_workers=4,
    dataset=dict(split='train', pipeline=train_pipeline, **dataset),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = test_dataloader = dict(
    batch_size=96,
    num_workers=4,
    dataset=dict(split='test', pipeline=test_pipeline, **dataset),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = test_evaluator = dict(type='Accuracy', topk=(1, 5))
