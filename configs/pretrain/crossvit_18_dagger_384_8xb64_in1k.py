# ImageNet-1k at 408 pixels: top-1 83.9 by the authors (README of IBM/CrossViT), not distilled.
# Starts from the weights at 240.
_base_ = [
    '../_base_/models/classifier.py',
    '../_base_/datasets/imagenet_408.py',
    '../_base_/schedules/crossvit_384_30e.py',
    'mmpretrain::_base_/default_runtime.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(type='mmvitx.CrossViT', arch='18_dagger', img_size=408, drop_path_rate=0.1),
    head=dict(in_channels=672, init_cfg=dict(std=0.01)),
)
train_dataloader = dict(batch_size=64)
load_from = 'mmvitx://crossvit_18_dagger'
