# CoaT-Lite Medium from 224 to 384 pixels (mlpc-ucsd/CoaT): 6 epochs in batches of 256 (8 GPUs x
# 32), no warm-up. Their scaled learning rate starts under their absolute minimum, so along the
# cosine it rises.
_base_ = './deit_300e.py'

optim_wrapper = dict(optimizer=dict(lr=2.5e-6, weight_decay=1e-8), clip_grad=dict(max_norm=5.0))
param_scheduler = [dict(type='CosineAnnealingLR', eta_min=5e-6, by_epoch=True, end=6)]
train_cfg = dict(max_epochs=6)
auto_scale_lr = dict(base_batch_size=256)
