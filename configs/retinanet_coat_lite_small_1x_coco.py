# RetinaNet with CoaT Lite-Small by the recipe of the authors' Mask R-CNN (adamw_1x.py), from
# ImageNet weights and in mixed precision; no one has published a figure.
# It reads strides 8 to 32, so the backbone puts out no map of stride 4.
_base_ = [
    './_base_/backbones/coat_lite_small.py',
    'mmdet::_base_/models/retinanet_r50_fpn.py',
    './_base_/datasets/coco_detection_mstrain.py',
    './_base_/schedules/adamw_1x.py',
    'mmdet::_base_/default_runtime.py',
    './_base_/default_runtime.py',
]
model = dict(
    backbone=dict(_base_.backbone, out_indices=(1, 2, 3)),
    neck=dict(in_channels=_base_.neck.in_channels[1:], start_level=0),
)
