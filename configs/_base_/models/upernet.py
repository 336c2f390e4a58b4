# UPerNet as mmseg has it for Swin, without its backbone. The auxiliary head reads the level of
# stride 16 (in_index=2), so a config gives it the width of that.
_base_ = ['mmseg::_base_/models/upernet_swin.py', './segmentor.py']

model = dict(
    data_preprocessor={{_base_.padding}},
    decode_head=dict(num_classes=150),
    auxiliary_head=dict(num_classes=150),
    test_cfg={{_base_.windows}},
)
