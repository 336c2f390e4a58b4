# ImageNet-1k at 384 pixels: top-1 80.9 by the authors (README of facebookresearch/deit) of the
# published weights, which are distilled. Starts from the weights at 224.
_base_ = [
    '../_base_/models/classifier.py',
    '../_base_/datasets/imagenet_384_uncropped.py',
    '../_base_/schedules/finetune_30e.py',
    'mmpretrain::_base_/default_runtime.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(type='mmvitx.CaiT', arch='xxs24', img_size=384, drop_path_rate=0.05),
    head=dict(in_channels=192),
)
train_dataloader = dict(batch_size=64)
load_from = 'mmvitx://cait_xxs24'
