# ImageNet-1k at 224 pixels: top-1 81.8 by the authors (arXiv 2103.17239), not distilled.
_base_ = [
    '../_base_/models/classifier.py',
    '../_base_/datasets/imagenet_224_uncropped.py',
    '../_base_/schedules/cait_400e.py',
    'mmpretrain::_base_/default_runtime.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(type='mmvitx.CaiT', arch='xs24', drop_path_rate=0.05),
    head=dict(in_channels=288),
)
train_dataloader = dict(batch_size=128)
