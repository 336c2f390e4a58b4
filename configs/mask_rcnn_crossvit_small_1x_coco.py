# CrossViT-S by a recipe of ours (adamw_1x_layer_decay.py), from ImageNet weights and in mixed
# precision; no one has published a figure.
_base_ = [
    './_base_/backbones/crossvit_small.py',
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py',
    './_base_/datasets/coco_instance_mstrain.py',
    './_base_/schedules/adamw_1x_layer_decay.py',
    'mmdet::_base_/default_runtime.py',
    './_base_/default_runtime.py',
]
model = dict(backbone={{_base_.backbone}}, neck={{_base_.neck}})
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.7))  # 12 layers
