# CrossViT-18 from its ImageNet weights to Oxford Pets, as its authors transfer it.
_base_ = [
    '../_base_/datasets/pets_240.py',
    '../_base_/schedules/transfer.py',
    'mmpretrain::_base_/default_runtime.py',
    '../_base_/default_runtime.py',
]
model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmvitx.CrossViT', arch='18', out_type='cls_token', drop_path_rate=0.1),
    head=dict(type='LinearClsHead', num_classes=37, in_channels=672),
)
load_from = 'mmvitx://crossvit_18'
