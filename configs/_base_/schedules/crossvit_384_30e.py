# As finetune_30e.py, with the steps of CrossViT's head: see crossvit_300e.py.
_base_ = './finetune_30e.py'

optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={'head.fc.weight': dict(lr_mult=0.5, decay_mult=2.0)}),
)
