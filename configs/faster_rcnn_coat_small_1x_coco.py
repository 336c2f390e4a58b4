# Faster R-CNN with CoaT Small by the recipe of the authors' Mask R-CNN (adamw_1x.py), from
# ImageNet weights and in mixed precision; no one has published a figure.
_base_ = [
    './_base_/backbones/coat_small.py',
    'mmdet::_base_/models/faster-rcnn_r50_fpn.py',
    './_base_/datasets/coco_detection_mstrain.py',
    './_base_/schedules/adamw_1x.py',
    'mmdet::_base_/default_runtime.py',
    './_base_/default_runtime.py',
]
model = dict(backbone={{_base_.backbone}}, neck={{_base_.neck}})
