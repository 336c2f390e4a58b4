# CoaT-Lite Small from its ImageNet weights to images of one's own, a folder a class.
_base_ = [
    '../_base_/datasets/folder_224.py',
    '../_base_/schedules/finetune_folder.py',
    'mmpretrain::_base_/default_runtime.py',
    '../_base_/default_runtime.py',
]
model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmvitx.CoaT', arch='lite_small', out_type='cls_token'),
    head=dict(type='LinearClsHead', num_classes={{_base_.num_classes}}, in_channels=512),
)
load_from = 'mmvitx://coat_lite_small'
