# ImageNet-1k at 224 pixels: top-1 81.9 by the authors (README of mlpc-ucsd/CoaT), not distilled.
_base_ = [
    '../_base_/models/classifier.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/coat_300e.py',
    'mmpretrain::_base_/default_runtime.py',
    '../_base_/default_runtime.py',
]
model = dict(backbone=dict(type='mmvitx.CoaT', arch='lite_small'), head=dict(in_channels=512))
train_dataloader = dict(batch_size=256)
