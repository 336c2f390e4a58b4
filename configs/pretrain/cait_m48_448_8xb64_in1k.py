# ImageNet-1k at 448 pixels: top-1 86.5 by the authors (README of facebookresearch/deit) of the
# published weights, which are distilled. Start from weights at 224, of which none are published:
# --cfg-options load_from=work_dirs/cait_m48_8xb128_in1k/epoch_400.pth
_base_ = [
    '../_base_/models/classifier.py',
    '../_base_/datasets/imagenet_448_uncropped.py',
    '../_base_/schedules/finetune_30e.py',
    'mmpretrain::_base_/default_runtime.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(type='mmvitx.CaiT', arch='m48', img_size=448, drop_path_rate=0.4),
    head=dict(in_channels=768),
)
train_dataloader = dict(batch_size=64)
