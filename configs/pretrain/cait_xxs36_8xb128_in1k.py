# ImageNet-1k at 224 pixels: top-1 79.1 by the authors (arXiv 2103.17239), not distilled; 79.7 by
# timm of the published weights, which are distilled.
_base_ = [
    '../_base_/models/classifier.py',
    '../_base_/datasets/imagenet_224_uncropped.py',
    '../_base_/schedules/cait_400e.py',
    'mmpretrain::_base_/default_runtime.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(type='mmvitx.CaiT', arch='xxs36', drop_path_rate=0.1),
    head=dict(in_channels=192),
)
train_dataloader = dict(batch_size=128)
