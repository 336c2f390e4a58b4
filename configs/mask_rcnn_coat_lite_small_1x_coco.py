# COCO val2017: box AP 45.2, mask AP 40.7 by the authors (README of mlpc-ucsd/CoaT), who start from
# ImageNet weights and train in mixed precision, as this config does.
_base_ = [
    './_base_/backbones/coat_lite_small.py',
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py',
    './_base_/datasets/coco_instance_mstrain.py',
    './_base_/schedules/adamw_1x.py',
    'mmdet::_base_/default_runtime.py',
    './_base_/default_runtime.py',
]
model = dict(backbone={{_base_.backbone}}, neck={{_base_.neck}})
