# ImageNet-1k at 384 pixels: top-1 84.5 by the authors (README of mlpc-ucsd/CoaT), not distilled.
# Starts from the weights at 224.
_base_ = [
    '../_base_/models/classifier.py',
    '../_base_/datasets/imagenet_384.py',
    '../_base_/schedules/coat_384_6e.py',
    'mmpretrain::_base_/default_runtime.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(type='mmvitx.CoaT', arch='lite_medium', drop_path_rate=0.2),
    head=dict(in_channels=512),
)
train_dataloader = dict(batch_size=32)
load_from = 'mmvitx://coat_lite_medium'
