# UPerNet with CoaT Small by the recipe of adamw_160k.py, from ImageNet weights; no one has
# published a figure.
_base_ = [
    './_base_/backbones/coat_small.py',
    './_base_/models/upernet.py',
    './_base_/datasets/ade20k_512x512.py',
    './_base_/schedules/adamw_160k.py',
    'mmseg::_base_/default_runtime.py',
    './_base_/default_runtime.py',
]
model = dict(
    backbone={{_base_.backbone}},
    decode_head=dict(in_channels={{_base_.neck.in_channels}}),
    auxiliary_head=dict(in_channels=_base_.neck.in_channels[2]),
)
