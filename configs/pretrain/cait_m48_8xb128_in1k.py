# ImageNet-1k at 224 pixels: no figure is published.
_base_ = [
    '../_base_/models/classifier.py',
    '../_base_/datasets/imagenet_224_uncropped.py',
    '../_base_/schedules/cait_400e.py',
    'mmpretrain::_base_/default_runtime.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(type='mmvitx.CaiT', arch='m48', drop_path_rate=0.4),
    head=dict(in_channels=768),
)
train_dataloader = dict(batch_size=128)
