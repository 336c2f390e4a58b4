# CoaT-Lite Small from its ImageNet weights to images of one's own, a folder a class; how many:
# --cfg-options model.head.num_classes=5
_base_ = [
    '../_base_/datasets/folder_224.py',
    '../_base_/schedules/finetune_folder.py',
    'mmpretrain::_base_/default_runtime.py',
    '../_base_/default_runtime.py',
]
model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmvitx.CoaT', arch='lite_small', out_type='cls_token'),
    head=dict(type='LinearClsHead', num_classes=2, in_channels=512),
)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=2, save_best='auto'))
load_from = 'mmvitx://coat_lite_small'
