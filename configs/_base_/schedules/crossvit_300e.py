# CrossViT's recipe (section 4.1 of arXiv 2103.14899): DeiT's without moving average, for a batch of
# 4096 (8 GPUs x 512) with 30 epochs of warm-up. Repeated augmentation is on as in their code's
# defaults; the paper says it is for CrossViT-18 only.
# Their logits are the mean of two heads, ours come from one whose weights are half as large: a step
# of Adam's is as large for both, so ours is halved, and the weight decay keeps its pace.
_base_ = './deit_300e.py'

lr = 4e-3
optim_wrapper = dict(
    optimizer=dict(lr=lr),
    paramwise_cfg=dict(custom_keys={'head.fc.weight': dict(lr_mult=0.5, decay_mult=2.0)}),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6 / lr, by_epoch=True, end=30),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=30, end=300),
]
auto_scale_lr = dict(base_batch_size=4096)
