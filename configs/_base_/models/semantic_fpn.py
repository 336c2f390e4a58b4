# Semantic FPN as mmseg has it for ResNet-50, without its backbone and weights.
_base_ = ['mmseg::_base_/models/fpn_r50.py', './segmentor.py']

model = dict(
    data_preprocessor={{_base_.padding}},
    pretrained=None,
    decode_head=dict(num_classes=150),
    test_cfg={{_base_.windows}},
)
