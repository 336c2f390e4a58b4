# Semantic FPN with CoaT Lite-Small on the things of COCO by the recipe of adamw_80k.py, from
# ImageNet weights; no one has published a figure. The label maps are made of the instance
# annotations, of train2017 and val2017:
# python tools/dataset_converters/coco_instances_to_semantic.py \
#     data/coco/annotations/instances_train2017.json data/coco_semantic/train2017
_base_ = [
    './_base_/backbones/coat_lite_small.py',
    './_base_/models/semantic_fpn.py',
    './_base_/datasets/coco_things_512x512.py',
    './_base_/schedules/adamw_80k.py',
    'mmseg::_base_/default_runtime.py',
    './_base_/default_runtime.py',
]
model = dict(
    backbone={{_base_.backbone}},
    neck={{_base_.neck}},
    # the share of labelled pixels is another in each image: their mean, not that of all pixels
    decode_head=dict(num_classes=80, loss_decode=dict(avg_non_ignore=True)),
)
