# ImageNet-1k at 224 pixels: top-1 83.3 by the authors (arXiv 2103.17239), not distilled.
_base_ = [
    '../_base_/models/classifier.py',
    '../_base_/datasets/imagenet_224_uncropped.py',
    '../_base_/schedules/cait_400e.py',
    'mmpretrain::_base_/default_runtime.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(type='mmvitx.CaiT', arch='s36', drop_path_rate=0.2),
    head=dict(in_channels=384),
)
train_dataloader = dict(batch_size=128)
