# ImageNet-1k at 240 pixels: top-1 73.4 by the authors (README of IBM/CrossViT), not distilled.
_base_ = [
    '../_base_/models/classifier.py',
    '../_base_/datasets/imagenet_240.py',
    '../_base_/schedules/crossvit_300e.py',
    'mmpretrain::_base_/default_runtime.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(type='mmvitx.CrossViT', arch='tiny', drop_path_rate=0.1),
    head=dict(in_channels=288, init_cfg=dict(std=0.01)),
)
train_dataloader = dict(batch_size=512)
